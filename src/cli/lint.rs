//! `lint`.

use std::path::PathBuf;

use clap::Args;

use super::globals::TextOrJson;
use super::{Context, print, print_json};
use crate::error::Result;
use crate::lint::{Finding, Severity};
use crate::parent::request::Request;

#[derive(Args, Debug)]
pub(super) struct Lint {
    /// The bundle: a directory with config.json
    #[arg(default_value = ".", value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Another configuration than the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One line a finding, or a JSON array of objects: severity, path, message, advice
    #[arg(long, value_enum, default_value_t = TextOrJson::Text)]
    format: TextOrJson,
    /// Take warnings for failures, too
    #[arg(long)]
    strict: bool,
    /// Look at it as `create --no-pivot` would
    #[arg(long)]
    no_pivot: bool,
}

/// Whoever it is for: no part of a configuration may depend on it.
const ANY_ID: &str = "lint";

impl Lint {
    pub(super) fn run(&self, context: &Context) -> Result<i32> {
        let request = Request {
            config: self.config.as_deref(),
            no_pivot: self.no_pivot,
            cgroups: context.cgroups,
            tolerance: context.tolerance,
            ..Request::new(ANY_ID, &self.bundle, &context.state, &context.trace)
        };
        let findings = request.lint()?;
        match self.format {
            TextOrJson::Json => print_json(&findings)?,
            TextOrJson::Text => print(&text(&findings))?,
        }
        let fails = |finding: &Finding| self.strict || finding.severity == Severity::Error;
        Ok(i32::from(findings.iter().any(fails)))
    }
}

fn text(findings: &[Finding]) -> String {
    match findings {
        [] => "no findings\n".into(),
        findings => findings.iter().map(|finding| format!("{finding}\n")).collect(),
    }
}
