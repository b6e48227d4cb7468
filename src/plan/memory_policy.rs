//! `linux.memoryPolicy`, checked as the kernel would; set_mempolicy(2).

use oci_spec::runtime::{Linux, MemoryPolicyFlagType, MemoryPolicyModeType};
use serde::{Deserialize, Serialize};

use super::numbers;
use crate::error::{Error, Result};

/// The arguments of set_mempolicy(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicyPlan {
    /// `MPOL_*`, with its `MPOL_F_*`.
    pub mode: u32,
    /// One bit a node.
    pub nodes: Vec<u64>,
    /// As the configuration has it, for errors.
    pub name: String,
}

/// `CONFIG_NODES_SHIFT` is at most 10.
const NODES: u32 = 1024;

/// Reads and checks it.
///
/// # Errors
/// What set_mempolicy(2) refuses on every machine.
pub fn from_spec(linux: &Linux) -> Result<Option<MemoryPolicyPlan>> {
    use MemoryPolicyModeType as Mode;
    let Some(policy) = linux.memory_policy() else { return Ok(None) };
    let bad = |property: &str, why: &str| Err(Error::at(format!("linux.memoryPolicy{property}"), why));
    let nodes = numbers::parse(policy.nodes().as_deref().unwrap_or_default(), NODES, "linux.memoryPolicy.nodes")?;
    let flags = policy.flags().as_deref().unwrap_or_default();
    let has = |flag| flags.contains(&flag);
    let fixed = has(MemoryPolicyFlagType::MpolFStaticNodes);
    let relative = has(MemoryPolicyFlagType::MpolFRelativeNodes);
    let balancing = has(MemoryPolicyFlagType::MpolFNumaBalancing);
    let (mode, takes_nodes, needs_nodes) = match policy.mode() {
        Mode::MpolDefault => (0, false, false),
        Mode::MpolPreferred => (1, true, false),
        Mode::MpolBind => (2, true, true),
        Mode::MpolInterleave => (3, true, true),
        Mode::MpolLocal => (4, false, false),
        Mode::MpolPreferredMany => (5, true, true),
        Mode::MpolWeightedInterleave => (6, true, true),
    };
    let name = policy.mode().to_string();
    match nodes.is_empty() {
        true if needs_nodes => return bad(".nodes", &format!("{name} needs at least one")),
        false if !takes_nodes => return bad(".nodes", &format!("{name} takes none")),
        true if fixed || relative => return bad(".flags", "static and relative nodes need nodes"),
        _ => {}
    }
    if fixed && relative {
        return bad(".flags", "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
    }
    if balancing && !matches!(policy.mode(), Mode::MpolBind | Mode::MpolPreferredMany) {
        return bad(".flags", &format!("MPOL_F_NUMA_BALANCING is not for {name}"));
    }
    let bits = [(fixed, 15), (relative, 14), (balancing, 13)];
    let mode = bits.iter().filter(|(set, _)| *set).fold(mode, |mode, (_, bit)| mode | 1 << bit);
    let mut mask = vec![0u64; nodes.last().map_or(0, |last| *last as usize / 64 + 1)];
    nodes.iter().for_each(|node| mask[*node as usize / 64] |= 1 << (node % 64));
    Ok(Some(MemoryPolicyPlan { mode, nodes: mask, name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Option<MemoryPolicyPlan>> {
        from_spec(&serde_json::from_str(&format!(r#"{{"memoryPolicy":{json}}}"#)).unwrap())
    }

    #[test]
    fn names_become_what_the_kernel_takes() {
        let bind = plan(r#"{"mode":"MPOL_BIND","nodes":"0,65","flags":["MPOL_F_STATIC_NODES"]}"#).unwrap().unwrap();
        assert_eq!((bind.mode, bind.nodes), (2 | 1 << 15, vec![1, 2]));
        assert!(plan(r#"{"mode":"MPOL_LOCAL"}"#).unwrap().unwrap().nodes.is_empty());
        assert_eq!(plan(r#"{"mode":"MPOL_WEIGHTED_INTERLEAVE","nodes":"0"}"#).unwrap().unwrap().mode, 6);
    }

    #[test]
    fn refuses_what_no_kernel_takes() {
        for json in [
            r#"{"mode":"MPOL_BIND"}"#,
            r#"{"mode":"MPOL_DEFAULT","nodes":"0"}"#,
            r#"{"mode":"MPOL_LOCAL","flags":["MPOL_F_STATIC_NODES"]}"#,
            r#"{"mode":"MPOL_INTERLEAVE","nodes":"0","flags":["MPOL_F_NUMA_BALANCING"]}"#,
            r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES","MPOL_F_RELATIVE_NODES"]}"#,
            r#"{"mode":"MPOL_BIND","nodes":"9999"}"#,
        ] {
            assert!(plan(json).is_err(), "{json}");
        }
    }
}
