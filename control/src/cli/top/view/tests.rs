//! Does the screen show what it should at 80×24, and do the keys do what the last line says?

use super::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

fn port(n: u64, drops: Value) -> Value {
    json!({"rx_packets": n, "rx_bytes": 100 * n, "tx_packets": 2 * n, "tx_bytes": 3000 * n, "drops": drops})
}

fn sample(at_s: f64, n: u64) -> Sample {
    let ports = json!({
        "br0": port(0, json!({})),
        "eth0.181": port(n, json!({"tx_full": 5 * n, "hairpin": 3})),
        "veth101": port(1000 * n, json!({"tagged_on_access": 2})),
        "(no port)": port(0, json!({"no_port": 1})),
    });
    let workers = json!([
        {"core": 1, "queues": [{}, {}], "packets": 1001 * n, "batch_mean": 8.0, "cycles_per_packet": 321.0, "busy_s": at_s / 4.0, "total_s": at_s},
        {"core": 3, "queues": [], "packets": 0, "batch_mean": 0.0, "cycles_per_packet": 0.0, "busy_s": 0.0, "total_s": at_s},
    ]);
    let bridges = json!({"bridges": {"br0": {"br0": {}, "eth0.181": {}, "veth101": {}}}});
    Sample::new(at_s, ports, workers, &bridges).expect("answers as the daemon gives them")
}

fn view() -> View {
    let mut view = View::new(sample(0.0, 0));
    view.take(sample(2.0, 200));
    view
}

fn screen(view: &View) -> String {
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a screen in memory");
    terminal.draw(|frame| view.draw(frame)).expect("it takes all");
    terminal.backend().to_string()
}

fn press(view: &mut View, keys: &[KeyCode]) -> bool {
    keys.iter().all(|&code| view.key(code.into()))
}

fn names(view: &View) -> Vec<&str> {
    view.ports.iter().map(|port| port.name.as_str()).collect()
}

#[test]
fn ports_workers_and_sums() {
    insta::assert_snapshot!(screen(&view()));
}

#[test]
fn one_ports_reasons_with_cause_and_remedy() {
    let mut view = view();
    assert!(press(&mut view, &[KeyCode::Enter]));
    insta::assert_snapshot!(screen(&view));
    press(&mut view, &[KeyCode::Esc]);
    assert!(screen(&view).contains("BRIDGE"));
}

#[test]
fn flows_have_their_place_when_there_are_any() {
    let mut view = view();
    let mut next = sample(4.0, 200);
    next.flows = vec!["10.0.0.1 > 10.0.0.2 tcp 443".to_owned(); 9];
    view.take(next);
    let text = screen(&view);
    assert_eq!(text.matches("tcp 443").count(), usize::from(FLOWS_SHOWN));
    assert!(text.contains("q quit") && text.contains("veth101"), "{text}");
}

#[test]
fn without_a_terminal_all_lines_are_printed() {
    insta::assert_snapshot!(view().plain());
}

#[test]
fn keys_sort() {
    let mut view = view();
    assert_eq!(names(&view), ["eth0.181", "veth101", "(no port)", "br0"], "by drops");
    press(&mut view, &[KeyCode::Char('s')]);
    assert_eq!(names(&view), ["veth101", "eth0.181", "(no port)", "br0"], "by what comes in");
    press(&mut view, &[KeyCode::Char('s'), KeyCode::Char('s')]);
    assert_eq!(names(&view), ["(no port)", "br0", "eth0.181", "veth101"], "by name");
    press(&mut view, &[KeyCode::Char('r')]);
    assert_eq!(names(&view), ["veth101", "eth0.181", "br0", "(no port)"], "reversed");
    press(&mut view, &[KeyCode::Char('r'), KeyCode::Char('s')]);
    assert_eq!(view.order, Order::Drops);
}

/// The bar stays on its port when the order changes, and at the ends.
#[test]
fn keys_select() {
    let mut view = view();
    press(&mut view, &[KeyCode::Down]);
    assert_eq!(view.bar(), Some(1));
    press(&mut view, &[KeyCode::Char('s')]);
    assert_eq!(view.bar(), Some(0), "veth101 is the first now");
    press(&mut view, &[KeyCode::End, KeyCode::Down, KeyCode::PageDown]);
    assert_eq!(view.bar(), Some(3));
    press(&mut view, &[KeyCode::Home, KeyCode::Up, KeyCode::PageUp]);
    assert_eq!(view.bar(), Some(0));
}

#[test]
fn keys_end_it() {
    for key in [KeyEvent::from(KeyCode::Char('q')), KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)] {
        assert!(!view().key(key));
    }
    assert!(view().key(KeyCode::Char('c').into()));
}

#[test]
fn a_switch_without_ports_and_a_daemon_that_is_gone() {
    let empty = Sample::new(0.0, json!({}), json!([]), &Value::Null).expect("nothing");
    let mut view = View::new(empty);
    press(&mut view, &[KeyCode::Down, KeyCode::Enter, KeyCode::End]);
    assert!(screen(&view).contains("0 ports"));
    view.complain("unix:/run/shunt/db.sock: the daemon closed the connection".to_owned());
    assert!(screen(&view).contains("closed the connection"));
}

/// Whatever the size, nothing breaks.
#[test]
fn any_size_will_do() {
    for (width, height) in [(1, 1), (10, 3), (40, 8), (300, 100)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen in memory");
        let mut view = view();
        terminal.draw(|frame| view.draw(frame)).expect("drawn");
        press(&mut view, &[KeyCode::Enter]);
        terminal.draw(|frame| view.draw(frame)).expect("drawn");
    }
}
