//! Is what the reconciler keeps of earlier passes what one that looks at everything would find? With real devices.

mod router;

use super::*;
use crate::dataplane::{Dataplane, Tuning};
use crate::fuzzing::contents;
use crate::schema::vswitch;
use serde_json::{Value, json};
use shunt_ffi::netns::TestNamespace;

/// A sub-port or a device, and what it needs to be there.
const NAMES: [&str; 5] = ["p0", "p1", "w0", "w0.5", "w0.6"];
const CHANGES: usize = 150;

struct World<'a> {
    reconciler: Reconciler,
    namespace: &'a TestNamespace,
    cores: Vec<usize>,
    random: u64,
}

impl World<'_> {
    fn random(&mut self, below: usize) -> usize {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % below as u64) as usize
    }

    fn transact(&mut self, operations: &[Value]) {
        self.reconciler.store.borrow_mut().transact(operations, Duration::ZERO, &|_| false);
    }

    fn update(&mut self, table: &str, name: &str, row: Value) {
        self.transact(&[json!({"op": "update", "table": table, "where": [["name", "==", name]], "row": row})]);
    }

    /// Operations that are refused (such as a second port of a name) change nothing.
    fn change(&mut self) {
        let name = NAMES[self.random(NAMES.len())];
        let bridge = format!("br{}", self.random(2));
        let number = self.random(3);
        let uuid = self.reconciler.model.interfaces.get(name).map(|interface| interface.port_uuid);
        let on_bridge = |how: &str, port: Value| json!({"op": "mutate", "table": "Bridge", "where": [["name", "==", bridge]], "mutations": [["ports", how, port]]});
        let add = |name: &str, kind: &str| {
            [
                json!({"op": "insert", "table": "Interface", "uuid-name": "i", "row": {"name": name, "type": kind}}),
                json!({"op": "insert", "table": "Port", "uuid-name": "p",
                    "row": {"name": name, "interfaces": ["named-uuid", "i"]}}),
                on_bridge("insert", json!(["named-uuid", "p"])),
            ]
        };
        let map = |pairs: &[(&str, &str)]| json!(["map", pairs.iter().map(|(k, v)| [k, v]).collect::<Vec<_>>()]);
        match self.random(14) {
            0..4 => self.transact(&add(name, "system")),
            4 => self.transact(&add(&bridge, "internal")),
            5 => uuid
                .into_iter()
                .for_each(|uuid| self.transact(&[on_bridge("delete", json!(["uuid", uuid.to_string()]))])),
            6 => self.update("Port", name, json!({"tag": number, "protected": number == 1})),
            7 => {
                let other = [map(&[]), map(&[("mac-limit", "3")]), map(&[("uplink", "true")])];
                self.update("Port", name, json!({"other_config": other[number]}));
            }
            8 => {
                let affinity = format!("0:{}", self.cores[number % self.cores.len()]);
                let other = if number == 0 { map(&[]) } else { map(&[("pmd-rxq-affinity", &affinity)]) };
                self.update("Interface", name, json!({"other_config": other}));
            }
            9 => self.update("Interface", name, json!({"mtu_request": 1400 + number, "ofport_request": 7 + number})),
            10 if !name.contains('.') => self.namespace.ip(&format!("link set {name} mtu {}", 1300 + number)),
            11 if !name.contains('.') => {
                self.namespace.ip(&format!("link del {name}"));
                self.namespace.ip(&format!("link add {name} type veth peer name {name}.q"));
            }
            12 => {
                let (first, all) =
                    (1_u64 << self.cores[0], self.cores.iter().fold(0_u64, |mask, core| mask | 1 << core));
                let mask = format!("{:x}", [first, all, all][number]);
                let row = json!({"other_config": map(&[("pmd-cpu-mask", &mask)])});
                self.transact(&[json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": row})]);
            }
            _ => {
                let insert = json!({"op": "insert", "table": "Bridge", "uuid-name": "b", "row": {"name": bridge}});
                let root = |how: &str, bridge: Value| json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["bridges", how, bridge]]});
                match self.reconciler.model.bridges.get(&bridge).map(|bridge| bridge.uuid) {
                    Some(uuid) if number == 0 => self.transact(&[root("delete", json!(["uuid", uuid.to_string()]))]),
                    _ => self.transact(&[insert, root("insert", json!(["named-uuid", "b"]))]),
                }
            }
        }
    }

    async fn follow(&mut self) {
        // What the kernel has told by now; the rest comes with a later pass.
        tokio::task::yield_now().await;
        let _ = tokio::time::timeout(Duration::from_millis(1), self.reconciler.event()).await;
        self.reconciler.reconcile().await.expect("the workers answer");
    }

    /// Looking at everything once more changes nothing.
    fn check(&mut self, number: usize) {
        let (model, wishes) = (Rc::clone(&self.reconciler.model), Rc::clone(&self.reconciler.wishes));
        let state = Rc::clone(&self.reconciler.state);
        let all = model.interfaces.keys().chain(state.borrow().ports.keys()).cloned().collect();
        let before = state.borrow().described();
        state.borrow_mut().install(&model, &all).expect("the workers answer");
        assert_eq!(state.borrow().described(), before, "change {number}");
        let rows = || contents(self.reconciler.store.borrow().database());
        let before = rows();
        self.reconciler.write_status(&model, &wishes, &all);
        let rows = contents(self.reconciler.store.borrow().database());
        assert_eq!(rows, before, "change {number}");
    }
}

#[test]
fn what_is_kept_is_what_there_is() {
    let namespace = TestNamespace::new();
    for name in ["p0", "p1", "w0"] {
        namespace.ip(&format!("link add {name} type veth peer name {name}.q"));
    }
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let cores: Vec<usize> = shunt_ffi::cpu::allowed().into_iter().take(2).collect();
            let tuning = Tuning { spin: Duration::ZERO, busy_poll: false };
            let store = Rc::new(RefCell::new(Store::in_memory(vswitch::schema())));
            let state = State::new(Dataplane::start(&cores[..1], tuning).expect("a worker"));
            let folder = tempfile::tempdir().expect("a temporary folder");
            let reconciler = Reconciler::new(
                store,
                Rc::new(RefCell::new(state)),
                Kernel::open().await.expect("netlink"),
                QueueOptions::default(),
                Remembered::open(&folder.path().join("db.sock")),
            );
            let mut world = World { reconciler, namespace: &namespace, cores, random: 0x5eed };
            for number in 0..CHANGES {
                world.change();
                world.follow().await;
                world.check(number);
            }
            assert!(!world.reconciler.state.borrow().ports.is_empty(), "some of it was attached");
            world.reconciler.shut_down(true).await.expect("the workers answer");
        });
    });
}
