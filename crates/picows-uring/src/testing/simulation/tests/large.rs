//! Large frames, of which the rest is taken straight from the socket.

use super::*;
use crate::testing::ring::sim::Random;

/// Large frames under every lie: they are taken straight from the socket, and come back whole.
#[test]
fn large_frames_come_back_whole_whatever_the_kernel_does() {
    let mut taken = 0;
    for seed in 0..8 {
        let faults = Faults { buffers: 4, reset: 0, ..Faults::draw(&mut Random::new(seed)) };
        let faults = Faults { descriptors_max: usize::MAX, accept_fails: 0, ..faults };
        let harness = Harness::new(seed, faults, Config::default());
        let mut scene = Scene { harness, callers: 0 };
        let peer = scene.call_with_room("/echo", 4 << 20);
        for len in [300_000, 70_000, 600_000, 10, 400_000_usize] {
            let payload: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
            scene.say(peer, MsgType::Binary, &payload);
            let mut bytes = Vec::new();
            let header = if len < 126 { 2 } else { 10 };
            for _ in 0..100_000 {
                if bytes.len() == header + len {
                    break;
                }
                if let PeerRead::Bytes(more) = scene.harness.ring().peer(peer).read(usize::MAX) {
                    bytes.extend(more);
                }
                scene.harness.step(MILLI / 10);
            }
            assert!(bytes.ends_with(&payload), "seed {seed}: {len}: {}", bytes.len());
        }
        taken += scene.harness.ring().taken();
    }
    assert!(taken > 2 << 20, "{taken} bytes: too few to show anything");
}
