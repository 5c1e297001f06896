//! Consumer groups over HTTP.

use quipu_types::{Action, GroupAction, GroupOp, Writers};

use crate::world::World;

#[test]
fn a_group_is_shown_with_its_members_lanes_and_cursors() {
    let world = World::new();
    let served = world.start();
    let mut producer = world.producer(2);
    let act = |op: GroupOp| Action::Group(Box::new(GroupAction { group: "g".into(), op }));
    let actions = vec![
        act(GroupOp::Create { consumers: Writers::Creator, starts: vec![] }),
        act(GroupOp::Join { member: "one".into(), session_us: 60_000_000 }),
    ];
    let answers = served.submit(&[producer.sign(None, actions)]);
    let answer = &answers[0];
    assert_eq!(answer["applied"], true, "{answer}");
    let group = served.get_json("/v1/groups/g");
    assert!(group["height"].as_u64() >= answer["height"].as_u64(), "{group}");
    assert!(group["time_us"].as_u64() >= answer["time_us"].as_u64(), "{group}");
    let member = &group["members"][0];
    assert_eq!(member["name"], "one");
    assert_eq!(member["joined"], answer["position"]);
    let end = answer["time_us"].as_u64().unwrap() + 60_000_000;
    assert_eq!(member["lease_end_us"], end);
    assert_eq!(group["lanes"].as_array().unwrap().len(), 4);
    assert_eq!(group["lanes"][3]["owner"], "one");
    assert_eq!(group["lanes"][3]["generation"], group["generation"]);
    assert_eq!(group["lanes"][3]["seqno"], 0);
    let list = served.get_json("/v1/groups");
    assert_eq!(list[0]["name"], "g");
    assert_eq!(list[0]["member_count"], 1);
    assert_eq!(served.get_json("/v1/groups?after=g"), serde_json::json!([]));
    let missing = served.get("/v1/groups/h");
    assert_eq!((missing.status, missing.json()["code"].as_str()), (404, Some("QP0236")));
    assert_eq!(served.get("/v1/groups/G").status, 400);
    served.stop().unwrap();
}
