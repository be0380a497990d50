//! Does the kernel agree? Packets in and out over real veth pairs (needs root).

mod common;

use common::*;
use shunt_ffi::Claims;

#[test]
fn a_packet_comes_in_and_one_goes_out() {
    let wire = Wire::new("");
    let raw = wire.raw();
    let (attachment, mut halves) = wire.attach(1, &Claims::Everything);
    let (rx, tx) = &mut halves[0];
    assert_eq!(attachment.mode().to_string(), "native");

    let sent = frame(None, 100);
    raw.send(&sent);
    assert_eq!(next_packet(rx).expect("arrives"), sent);

    let mut answer = frame(None, 1400);
    answer[5] = 9;
    assert_eq!(send(tx, &answer, None).pending, 0);
    assert_eq!(raw.receive(|packet| packet[5] == 9).expect("arrives"), answer);
    assert!(rx.frames().is_conserved() && tx.frames().is_conserved());
}
