//! `state`, `list`, `ps`.

use std::process::Command;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Context, print, print_json};
use crate::error::{Context as _, Error, Kind, Result};
use crate::parent::lifecycle::Container;
use crate::plan::user::name_of;
use crate::state::Status;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Prints a container's state; runtime-spec, runtime.md, "State", with what engines read beside it.
pub(super) fn state(container: &Container) -> Result<()> {
    print_json(&describe(container)?)
}

fn describe(container: &Container) -> Result<Value> {
    let state = &container.record.state;
    let mut json = json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "pid": container.pid(),
        "status": container.status.name(),
        "bundle": state.bundle,
        "rootfs": container.record.rootfs,
        "created": container.record.created,
        "owner": owner(container)?,
    });
    if !state.annotations.is_empty() {
        json["annotations"] = json!(state.annotations);
    }
    Ok(json)
}

/// By name, where the host knows one.
fn owner(container: &Container) -> Result<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = container.dir.owner()?;
    Ok(name_of(uid, &passwd).unwrap_or_else(|| uid.to_string()))
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// Only the IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

impl List {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let mut containers = vec![];
        for id in context.state.ids()? {
            match Container::open(&context.state, id.as_str()) {
                Ok(container) => containers.push(container),
                // Deleted since, or not yet written.
                Err(e) if e.kind() == Kind::NotFound => {}
                // One that can't be read hides no other.
                Err(e) => log::warn!("container `{id}`: {e}"),
            }
        }
        if self.quiet {
            return print(&containers.iter().map(|c| format!("{}\n", c.id)).collect::<String>());
        }
        match self.format {
            Format::Json => print_json(&containers.iter().map(describe).collect::<Result<Vec<_>>>()?),
            Format::Table => print(&table(&containers)?),
        }
    }
}

fn table(containers: &[Container]) -> Result<String> {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for c in containers {
        let (state, pid) = (&c.record.state, c.pid().to_string());
        let bundle = state.bundle.display().to_string();
        rows.push([c.id.to_string(), pid, c.status.name().to_owned(), bundle, c.record.created.clone(), owner(c)?]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    Ok(rows.iter().map(line).collect())
}

#[derive(Args, Debug)]
pub(super) struct Ps {
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The container
    id: String,
    /// Options of ps(1) for the table; -ef without
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    ps_options: Vec<String>,
}

impl Ps {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let container = Container::open(&context.state, &self.id)?;
        // A stopped one has none, whoever else may be in its cgroup.
        let pids = if container.status == Status::Stopped { Some(vec![]) } else { container.pids()? };
        let pids = pids.unwrap_or_else(|| {
            log::warn!(
                "only the first process of container `{}` is shown: it has neither a cgroup nor a pid namespace of its own, \
                 so nothing tells which others are its",
                container.id
            );
            vec![container.pid()]
        });
        match self.format {
            Format::Json => {
                let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
                print(&format!("[{}]\n", pids.join(",")))
            }
            Format::Table => print(&self.table(&pids)?),
        }
    }

    /// The host's `ps`, and of its lines those of the container. A host without it gets the bare numbers.
    fn table(&self, pids: &[i32]) -> Result<String> {
        let bare = || pids.iter().fold("PID\n".to_owned(), |text, pid| text + &format!("{pid}\n"));
        let default = ["-ef".to_owned()];
        let options = if self.ps_options.is_empty() { &default[..] } else { &self.ps_options };
        let output = match Command::new("ps").args(options).output() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(bare()),
            output => output.context(|| "run `ps`")?,
        };
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::system(said.lines().next().unwrap_or_default().to_owned()).context("run `ps`"));
        }
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default();
        let column = header.split_ascii_whitespace().position(|title| title == "PID");
        let column = column.ok_or_else(|| Error::new(Kind::Usage, "the options of ps show no PID"))?;
        let ours = lines.filter(|line| {
            let pid = line.split_ascii_whitespace().nth(column).and_then(|pid| pid.parse::<i32>().ok());
            pid.is_some_and(|pid| pids.contains(&pid))
        });
        Ok(ours.fold(format!("{header}\n"), |text, line| text + line + "\n"))
    }
}
