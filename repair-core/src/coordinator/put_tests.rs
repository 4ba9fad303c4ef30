//! Sessions of puts: how many there may be, and how long each is remembered.

use super::testing::{CLIENT, OTHER, World, hasty};
use super::{CoordinatorConfig, CoordinatorEvent};
use crate::id::StreamKey;
use crate::time::Millis;
use crate::wire::{DaemonReply, DaemonRequest, Refusal};

fn begin_over(world: &mut World, peer: crate::node::PeerId, stream: u128) -> DaemonReply {
    world.ask_over(peer, DaemonRequest::BeginPut { stream: StreamKey(stream) })
}

fn is_whole(world: &mut World, stream: StreamKey) -> bool {
    matches!(world.ask(DaemonRequest::BeginPut { stream }), DaemonReply::PutBegun { whole: true, .. })
}

#[test]
fn any_number_of_puts_may_follow_each_other_over_one_connection() {
    let config = CoordinatorConfig { put_resume: Millis(3_600_000), slots_per_disk: 1, ..hasty() };
    let mut world = World::new(3, config);
    for number in 0..1_100u128 {
        world.put(StreamKey(number + 1), &format!("name{number}"), b"x");
    }
    assert_eq!(world.coordinator().status().puts_open, 0);
    // And over others, whether they are there or not.
    world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
    world.put(StreamKey(0xffff), "last", b"x");
    assert!(is_whole(&mut world, StreamKey(1)) && is_whole(&mut world, StreamKey(0xffff)));
}

#[test]
fn one_connection_does_not_keep_the_others_from_putting() {
    let mut world = World::new(3, hasty());
    let refused = (0..1_200).filter(|stream| {
        let reply = begin_over(&mut world, CLIENT, 1_000 + stream);
        matches!(reply, DaemonReply::Refused(Refusal::Busy(_)))
    });
    assert_eq!(refused.count(), 1_200 - 64);
    assert!(matches!(begin_over(&mut world, OTHER, 1), DaemonReply::PutBegun { .. }));
    // One that is open already may be begun again, and one that ends makes room.
    assert!(matches!(begin_over(&mut world, CLIENT, 1_000), DaemonReply::PutBegun { .. }));
    assert_eq!(world.ask(DaemonRequest::AbortPut { stream: StreamKey(1_000) }), DaemonReply::PutAborted);
    assert!(matches!(begin_over(&mut world, CLIENT, 2), DaemonReply::PutBegun { .. }));
    assert!(matches!(begin_over(&mut world, CLIENT, 3), DaemonReply::Refused(Refusal::Busy(_))));
}
