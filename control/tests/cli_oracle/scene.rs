//! Where do the command lines run? In a network namespace with the same devices each time, on Open vSwitch's daemons
//! or on shuntd.

use shunt_control::cli::client::Client;
use shunt_ffi::netns::TestNamespace;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What Debian's package installs.
pub(crate) const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// The devices that the command lines may count on: ends of veths.
const DEVICES: &[&str] = &["p0", "p1", "p2", "p3", "p4", "q1", "q2", "tmp"];
const START_LIMIT: Duration = Duration::from_secs(30);

/// Which switch is behind the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Switch {
    /// `ovsdb-server` and `ovs-vswitchd`, userspace datapath.
    Ovs,
    /// `shuntd`
    Shunt,
}

/// A switch that runs.
pub(crate) struct Scene {
    namespace: TestNamespace,
    folder: tempfile::TempDir,
    children: Vec<Child>,
}

impl Scene {
    /// Starts one and waits until it serves.
    pub(crate) fn start(switch: Switch) -> Scene {
        let namespace = TestNamespace::new();
        for name in DEVICES {
            namespace.ip(&format!("link add {name} type veth peer name {name}-far"));
            namespace.ip(&format!("link set {name} up"));
            namespace.ip(&format!("link set {name}-far up"));
        }
        let mut scene = Scene { namespace, folder: tempfile::tempdir().unwrap(), children: vec![] };
        match switch {
            Switch::Ovs => scene.start_ovs(),
            Switch::Shunt => {
                let state = scene.folder.path().join("conf.db");
                let socket = format!("--socket={}", scene.socket().display());
                scene.spawn(Command::new(env!("CARGO_BIN_EXE_shuntd")).args([&socket, "--state"]).arg(state));
                scene.await_socket();
            }
        }
        scene
    }

    fn start_ovs(&mut self) {
        let path = |name: &str| self.folder.path().join(name);
        let db = path("conf.db");
        let made = Command::new("ovsdb-tool").arg("create").args([&db, Path::new(SCHEMA)]).status();
        assert!(made.is_ok_and(|status| status.success()), "ovsdb-tool failed; Debian: openvswitch-switch");
        let remote = format!("--remote=punix:{}", self.socket().display());
        let control = format!("--unixctl={}", path("server.ctl").display());
        self.spawn(Command::new("ovsdb-server").args([&remote, &control, "--no-chdir"]).arg(&db));
        self.await_socket();
        // As the package's start script does.
        let init = ["--no-wait", "init", "--", "set", "Open_vSwitch", ".", "ovs_version=3.1.0"].map(str::to_owned);
        let output = self.run("ovs-vsctl", &init);
        assert!(output.status.success(), "{output:?}");
        let db = format!("unix:{}", self.socket().display());
        let control = format!("--unixctl={}", self.folder.path().join("switch.ctl").display());
        self.spawn(Command::new("ovs-vswitchd").args([&db, &control, "--no-chdir"]));
    }

    fn spawn(&mut self, command: &mut Command) {
        let log = self.folder.path().join(format!("log{}", self.children.len()));
        let log = std::fs::File::create(log).unwrap();
        command.env("OVS_RUNDIR", self.folder.path()).env("OVS_LOGDIR", self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = self.namespace.run(|| command.spawn());
        self.children.push(child.unwrap_or_else(|error| panic!("{command:?}: {error}")));
    }

    fn await_socket(&mut self) {
        let connected = Client::connect(&self.socket(), Some(Instant::now() + START_LIMIT), true, false);
        assert!(connected.is_ok(), "nobody listens: {}", self.logs());
    }

    /// What the daemons wrote.
    pub(crate) fn logs(&self) -> String {
        let read = |i| std::fs::read_to_string(self.folder.path().join(format!("log{i}"))).unwrap_or_default();
        (0..self.children.len()).map(read).collect()
    }

    /// The socket of the database.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("db.sock")
    }

    /// Runs a client with `OVS_RUNDIR` as only hint where the switch is.
    pub(crate) fn run(&self, program: &str, args: &[String]) -> Output {
        let mut command = Command::new(program);
        let db = format!("--db=unix:{}", self.socket().display());
        command.env("OVS_RUNDIR", self.folder.path()).args([&db, "--timeout=20"]).args(args);
        self.namespace.run(|| command.output()).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Whether the daemons live.
    pub(crate) fn alive(&mut self) -> bool {
        self.children.iter_mut().all(|child| matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
