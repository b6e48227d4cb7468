use super::*;
use serde_json::json;

fn read(value: serde_json::Value) -> Result<Resources> {
    Resources::from_spec(&serde_json::from_value(value).unwrap())
}

fn refuses(value: serde_json::Value, start: &str) {
    let error = read(value).unwrap_err().to_string();
    assert!(error.starts_with(start), "{error}");
}

fn everything() -> Resources {
    read(json!({
        "devices": [{"allow": false, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 10, "minor": -1, "access": "rw"}],
        "memory": {"limit": 1000, "swap": 3000, "reservation": -1, "kernel": 7, "kernelTCP": 9, "swappiness": 5,
                   "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true},
        "cpu": {"shares": 1024, "quota": -1, "period": 100000, "burst": 0, "idle": 1, "realtimeRuntime": 5,
                "realtimePeriod": 6, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 32},
        "blockIO": {"weight": 10, "leafWeight": 0, "weightDevice": [{"major": 8, "minor": 0, "weight": 500}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 300}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}},
        "unified": {"hugetlb.1GB.max": "1073741824"}
    }))
    .unwrap()
}

#[test]
fn reads_everything() {
    let all = everything();
    let rules = all.devices.as_ref().unwrap();
    assert!(rules[0].is_total() && !rules[0].allow);
    assert_eq!((rules[1].kind, rules[1].major, rules[1].minor), (DeviceKind::Char, Some(10), None));
    assert_eq!(rules[1].access.to_string(), "rw");
    assert_eq!(all.memory.swap, Some(Limit::At(3000)));
    assert_eq!(all.memory.reservation, Some(Limit::Max));
    assert_eq!((all.cpu.quota, all.cpu.burst, all.cpu.idle), (Some(Limit::Max), Some(0), Some(true)));
    assert_eq!((all.block_io.weight, all.block_io.leaf_weight), (Some(10), None));
    assert_eq!(all.network.priorities, [("eth0".to_owned(), 500)]);
    assert_eq!(all.rdma["mlx5_1"], Rdma { handles: Some(3), objects: Some(10) });
    assert!(!all.is_empty() && all.has_limits());
}

#[test]
fn is_the_same_after_either_encoding() {
    let all = everything();
    let text = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Resources>(&text).unwrap(), all);
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(&all, config).unwrap();
    assert_eq!(bincode::serde::decode_from_slice::<Resources, _>(&bytes, config).unwrap(), (all, bytes.len()));
}

#[test]
fn zeros_of_go_mean_not_set() {
    let zeros = json!({"memory": {"limit": 0, "swap": 0}, "cpu": {"shares": 0, "quota": 0, "period": 0,
        "cpus": "", "realtimeRuntime": 0}, "blockIO": {"weight": 0}, "devices": [], "network": {}});
    let read_back = read(zeros).unwrap();
    assert!(read_back.is_empty(), "{read_back:?}");
    for swap in [json!({"swap": 0}), json!({"limit": 9, "swap": 0}), json!({"limit": -1, "swap": 0})] {
        assert_eq!(read(json!({"memory": swap})).unwrap().memory.swap, Some(Limit::At(0)), "{swap}");
    }
    let defaults = json!({"devices": [{"allow": false}], "memory": {"disableOOMKiller": false, "limit": -1},
        "pids": {"limit": -1}, "cpu": {"quota": -1, "idle": 0}});
    let defaults = read(defaults).unwrap();
    assert!(!defaults.is_empty() && !defaults.has_limits(), "{defaults:?}");
    assert!(read(json!({"pids": {"limit": 1}})).unwrap().has_limits());
    assert_eq!(read(json!({"pids": {"limit": 0}})).unwrap().pids, Some(Limit::Max));
    assert_eq!(read(json!({"pids": {"limit": -1}})).unwrap().pids, Some(Limit::Max));
}

#[test]
fn names_what_is_wrong() {
    refuses(json!({"pids": {"limit": -2}}), "linux.resources.pids.limit: -2");
    refuses(json!({"memory": {"limit": -5}}), "linux.resources.memory.limit: -5");
    refuses(json!({"memory": {"limit": 20, "swap": 10}}), "linux.resources.memory.swap: 10");
    refuses(json!({"memory": {"limit": -1, "swap": 10}}), "linux.resources.memory.swap: ");
    refuses(json!({"memory": {"swappiness": 101}}), "linux.resources.memory.swappiness: 101");
    refuses(json!({"cpu": {"idle": 2}}), "linux.resources.cpu.idle: 2");
    refuses(json!({"cpu": {"cpus": "0;1"}}), "linux.resources.cpu.cpus: `0;1`");
    refuses(json!({"blockIO": {"weight": 9}}), "linux.resources.blockIO.weight: 9");
    let weight = json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 1001}]}});
    refuses(weight, "linux.resources.blockIO.weightDevice[0].weight: 1001");
    let rate = json!({"blockIO": {"throttleReadIOPSDevice": [{"major": -8, "minor": 0, "rate": 1}]}});
    refuses(rate, "linux.resources.blockIO.throttleReadIOPSDevice[0]: -8:0");
    for size in ["2", "MB", "02MB", "../2MB", "2mb"] {
        let huge = json!({"hugepageLimits": [{"pageSize": size, "limit": 1}]});
        refuses(huge, "linux.resources.hugepageLimits[0].pageSize: ");
    }
    for key in ["", "..", "a/b", "../cgroup.procs"] {
        refuses(json!({"unified": {key: "1"}}), "linux.resources.unified: ");
    }
    refuses(json!({"rdma": {"a b": {}}}), "linux.resources.rdma: ");
    let priority = json!({"network": {"priorities": [{"name": "a\nb", "priority": 1}]}});
    refuses(priority, "linux.resources.network.priorities[0].name: ");
    refuses(json!({"devices": [{"allow": true, "type": "p"}]}), "linux.resources.devices[0].type: ");
    refuses(json!({"devices": [{"allow": true, "access": "rx"}]}), "linux.resources.devices[0].access: ");
    refuses(json!({"devices": [{"allow": true, "major": 1i64 << 40}]}), "linux.resources.devices[0].major: ");
}

#[test]
fn an_update_changes_only_what_it_holds() {
    let mut all = everything();
    let update = json!({"memory": {"limit": 2000}, "hugepageLimits": [{"pageSize": "2MB", "limit": -1}]});
    all.merge(&read(update).unwrap());
    assert_eq!((all.memory.limit, all.memory.swap), (Some(Limit::At(2000)), Some(Limit::At(3000))));
    assert_eq!(all.hugepages, [Hugepage { page_size: "2MB".into(), limit: Limit::Max }]);
    assert_eq!((all.pids, all.devices.unwrap().len()), (Some(Limit::At(32)), 2));
}

#[test]
fn what_the_kernel_can_not_hold_is_refused_before_it_is_asked() {
    refuses(json!({"cpu": {"quota": 5000, "burst": 5001}}), "linux.resources.cpu.burst: 5001 is over the quota, 5000");
    read(json!({"cpu": {"quota": 5000, "burst": 5000}})).unwrap();
    read(json!({"cpu": {"quota": -1, "burst": 5000}})).unwrap();
    refuses(json!({"cpu": {"quota": 999}}), "linux.resources.cpu.quota: 999 microseconds");
    refuses(json!({"cpu": {"quota": 1i64 << 44}}), "linux.resources.cpu.quota: 17592186044416 microseconds");
    refuses(json!({"cpu": {"period": 999}}), "linux.resources.cpu.period: 999 microseconds");
    refuses(json!({"cpu": {"period": 1_000_001}}), "linux.resources.cpu.period: 1000001 microseconds");
    let realtime = json!({"cpu": {"realtimeRuntime": 7, "realtimePeriod": 6}});
    refuses(realtime, "linux.resources.cpu.realtimeRuntime: 7 is over the period, 6");
    read(json!({"cpu": {"realtimeRuntime": -1, "realtimePeriod": 6}})).unwrap();
    refuses(json!({"pids": {"limit": 4_194_305}}), "linux.resources.pids.limit: 4194305 is over 4194304");
    read(json!({"pids": {"limit": 4_194_304}})).unwrap();
    let rate = json!({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 1 << 20, "rate": 1}]}});
    refuses(rate, "linux.resources.blockIO.throttleReadBpsDevice[0]: 8:1048576 is no device number");
    let rdma = json!({"rdma": {"mlx": {"hcaObjects": 1u32 << 31}}});
    refuses(rdma, "linux.resources.rdma[\"mlx\"].hcaObjects: 2147483648 is over 2147483647");
    // What 63 bits don't hold the type refuses, by its path.
    for (json, path) in [
        (json!({"pids": {"limit": 1u64 << 63}}), "pids.limit"),
        (json!({"memory": {"limit": 1u64 << 63}}), "memory.limit"),
        (json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 1u64 << 63}]}), "hugepageLimits[0].limit"),
    ] {
        let config = json!({"ociVersion": "1.3.0", "linux": {"resources": json}});
        let error = crate::plan::load::spec_from_text(config.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.property(), Some(format!("linux.resources.{path}").as_str()));
        assert!(error.to_string().contains("9223372036854775808"), "{error}");
    }
}
