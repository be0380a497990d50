//! And with the daemons in the loop? The same lines by `ovs-vsctl` on Open vSwitch, by `ovs-vsctl` on shuntd, and by
//! `shuntctl` under both of its names on shuntd.

use super::compare::{agrees, daemon_columns, device_words, line_differences, messages, normal, words};
use super::scene::{Scene, Switch};

/// Which client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Original,
    ByItsName,
    Shuntctl,
}

/// What a line brought.
struct Outcome {
    messages: Vec<String>,
    printed: String,
    status: Option<i32>,
}

/// Bridges of the userspace datapath, as Open vSwitch's users type it: the line that makes one also says its type.
fn with_datapath(line: &str) -> String {
    match words(line).as_slice() {
        [.., command, name] if command == "add-br" && !name.is_empty() && !name.contains(' ') => {
            format!("{line} -- set bridge {name} datapath_type=netdev")
        }
        _ => line.to_owned(),
    }
}

fn play(scene: &mut Scene, program: &str, lines: &[&str]) -> Vec<Outcome> {
    let mut outcomes = vec![];
    for line in lines {
        let line = with_datapath(line);
        let expand = |word: String| match word.split_once("UUID(") {
            Some((before, rest)) => {
                let (record, after) = rest.split_once(')').unwrap();
                let (table, name) = record.split_once(',').unwrap();
                let get = ["get", table, name, "_uuid"].map(str::to_owned);
                let uuid = String::from_utf8(scene.run("ovs-vsctl", &get).stdout).unwrap();
                format!("{before}{}{after}", uuid.trim())
            }
            None => word,
        };
        let args: Vec<String> = words(&line).into_iter().map(expand).collect();
        let output = scene.run(program, &args);
        outcomes.push(Outcome {
            messages: messages(&output.stderr),
            printed: daemon_columns(&normal(&output.stdout, &line)),
            status: output.status.code(),
        });
    }
    assert!(scene.alive(), "a daemon died:\n{}", scene.logs());
    outcomes
}

#[test]
fn the_same_lines_do_the_same_with_the_daemons() {
    let lines = super::lines();
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("ovs-vsctl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_shuntctl"), &link).unwrap();
    let link = link.to_str().unwrap();
    let sides = [
        (Side::Original, Switch::Ovs, "ovs-vsctl"),
        (Side::Original, Switch::Shunt, "ovs-vsctl"),
        (Side::ByItsName, Switch::Shunt, link),
        (Side::Shuntctl, Switch::Shunt, env!("CARGO_BIN_EXE_shuntctl")),
    ];
    let outcomes: Vec<Vec<Outcome>> = std::thread::scope(|scope| {
        let play = |(_, switch, program): (Side, Switch, &str)| {
            let (lines, program) = (&lines, program.to_owned());
            scope.spawn(move || play(&mut Scene::start(switch), &program, lines))
        };
        let threads: Vec<_> = sides.into_iter().map(play).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut failures = vec![];
    for (place, line) in lines.iter().enumerate() {
        let theirs = &outcomes[0][place];
        for (number, (side, ..)) in sides.iter().enumerate().skip(1) {
            let differences = differences(line, theirs, &outcomes[number][place], *side);
            if !differences.is_empty() {
                failures.push(format!("$ {line}\n   {side:?} on shuntd: {}", differences.join("\n   ")));
            }
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

const TROUBLE: &str = "Error detected while setting up";

/// As [`agrees`]; what the switch says about a device may have a cause that only we have, and a remedy.
fn device_agrees(theirs: &str, ours: &str) -> bool {
    const LOG: &str = ".  See ovs-vswitchd log for details.";
    let without_reason = theirs.trim_end_matches(LOG);
    if without_reason.ends_with('\'') && theirs.ends_with(LOG) == ours.ends_with(LOG) {
        return ours.starts_with(&format!("{without_reason}: ")); // it does not say why
    }
    let parts = |text: &str| {
        let (device, words) = text.strip_prefix(TROUBLE)?.split_once(": ")?;
        let ends = words.ends_with(LOG);
        Some((device.to_owned(), device_words(words.trim_end_matches(LOG)), ends))
    };
    match (parts(theirs), parts(ours)) {
        (Some((a, theirs, a_ends)), Some((b, ours, b_ends))) => {
            a == b && a_ends == b_ends && (theirs == ours || ours == "our own cause")
        }
        _ => false,
    }
}

/// `shuntctl` names every interface in trouble among what a command changed, and exits with 65; `ovs-vsctl` looks only
/// at interfaces that it has just added, and exits with 0.
const TELLS_MORE: &[&str] = &[
    "set interface p0 mtu_request=1400 type=internal options:n_rxq=2",
    "set interface p0 mtu_request=10",
    "-- --id=@i create interface name=xx -- --id=@p create port name=xx interfaces=@i -- add bridge br0 ports @p",
    "-- --id=@a create interface name=y1 -- --id=@b create interface name=y2 -- set port xx interfaces=@a,@b",
    "set port bond2 bond_mode=balance-slb",
    "set mirror m0 output_vlan=5",
];

/// Lines that `shuntctl`, by either name, answers otherwise on purpose; besides those of [`super::WANTED`].
const OTHERWISE: &[&str] = &[
    "--dry-run add-port br0 dd -- list-ports br0", // 3.1 waits for ever for what it does not do
];

fn differences(line: &str, theirs: &Outcome, ours: &Outcome, side: Side) -> Vec<String> {
    let mut differences = vec![];
    let (mut status, mut messages, mut own) = (theirs.status, theirs.messages.clone(), ours.messages.clone());
    if side == Side::Shuntctl {
        messages.retain(|message| !message.starts_with("The default log directory is"));
        messages.iter_mut().for_each(|message| *message = message.replace(".  See ovs-vswitchd log for details.", ""));
        // Committed, but not in force: 3.1 says so in words only.
        if own.iter().any(|message| message.starts_with(TROUBLE)) && status == Some(0) {
            status = Some(65);
        }
        if TELLS_MORE.contains(&line) {
            own.retain(|message| !message.starts_with(TROUBLE));
        }
    }
    if side != Side::Original {
        if OTHERWISE.contains(&line) {
            return differences;
        }
        if let Some((_, message)) = super::WANTED.iter().find(|(known, _)| *known == line) {
            messages = vec![(*message).to_owned()];
        }
    }
    let same = messages.len() == own.len()
        && messages.iter().zip(&own).all(|(theirs, ours)| agrees(theirs, ours) || device_agrees(theirs, ours));
    if !same {
        differences.push(format!("stderr {messages:?}\n     ours {own:?}"));
    }
    // Where that did not say why, `show` and the column do not either.
    const UNSAID: [&str; 2] = ["error: cannot use 'a b'", "error: could not open network device c\\\"d"];
    let (mut only_theirs, mut only_ours) = line_differences(&theirs.printed, &ours.printed);
    while let Some(place) = only_ours.iter().position(|line| line.ends_with("error: our own cause"))
        && let Some(other) = only_theirs.iter().position(|line| line.trim_start().starts_with("error: "))
    {
        only_ours.remove(place);
        only_theirs.remove(other);
    }
    // Columns of ours in tables of theirs; the original client does not know them.
    let own_column = match line {
        "list open" => "error               : []",
        "list interface" => "svi                 : []",
        _ => "",
    };
    only_ours.retain(|line| side == Side::Original || line != own_column);
    only_ours.retain(|line| !UNSAID.iter().any(|unsaid| line.trim_start().starts_with(unsaid)));
    if (&only_theirs, &only_ours) != (&vec![], &vec![]) {
        differences.push(format!("stdout {only_theirs:?}\n     ours {only_ours:?}"));
    }
    if status != ours.status {
        differences.push(format!("status {status:?}\n     ours {:?}", ours.status));
    }
    differences
}
