//! What keeps a validator from starting, each by its code.

use std::num::NonZeroUsize;

use quipu_node::{Config, Node, NodeError};
use quipu_types::code;

use crate::world::World;

fn refused(config: Config) -> NodeError {
    Node::open(config).expect_err("it must not start")
}

#[test]
fn a_taken_port_is_named_and_nothing_is_left_locked() {
    let world = World::new();
    let served = world.start();
    let other = World::new();
    let mut config = other.config();
    config.listen.pg = served.at.http;
    let error = refused(config);
    assert_eq!(error.code(), code::PORT);
    let text = error.to_string();
    assert!(text.contains("listen.pg") && text.contains(&served.at.http.to_string()), "{text}");
    other.start().stop().unwrap();
    served.stop().unwrap();
}

#[test]
fn one_process_a_directory() {
    let world = World::new();
    let served = world.start();
    assert_eq!(refused(world.config()).code(), code::STORE_LOCKED);
    assert_eq!(
        quipu_node::check(&world.dir(), NonZeroUsize::MIN, |_| {}).unwrap_err().code(),
        code::STORE_LOCKED,
        "a check does not read what is being written"
    );
    served.stop().unwrap();
}

#[test]
fn a_directory_of_another_ledger_is_refused() {
    let world = World::new();
    world.start().stop().unwrap();
    let mut genesis = world.genesis.clone();
    genesis.name = "another ledger".into();
    std::fs::write(world.root.path().join("genesis.json"), genesis.to_json()).unwrap();
    assert_eq!(refused(world.config()).code(), code::STORE_FOREIGN);
}

#[test]
fn wrong_genesis_key_and_configuration_files_have_each_their_code() {
    let world = World::new();
    let genesis = world.root.path().join("genesis.json");
    std::fs::write(&genesis, "{}").unwrap();
    assert_eq!(refused(world.config()).code(), code::GENESIS);
    let mut unproven = world.genesis.clone();
    unproven.validators[0].possession = quipu_types::Signature([1; 64]);
    std::fs::write(&genesis, unproven.to_json()).unwrap();
    let error = refused(world.config());
    assert!(error.to_string().contains("does not prove its key"), "{error}");
    std::fs::write(&genesis, world.genesis.to_json()).unwrap();

    let key = world.dir().join("validator.key");
    let text = std::fs::read(&key).unwrap();
    std::fs::write(&key, b"nonsense").unwrap();
    assert_eq!(refused(world.config()).code(), code::KEY_FILE);
    std::fs::write(&key, text).unwrap();

    let path = world.dir().join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("body_size_max", "body_max")).unwrap();
    let error = Config::read(&world.dir()).unwrap_err();
    assert_eq!(error.code(), code::CONFIG);
    assert!(error.to_string().contains("\"limits.body_size_max\""), "{error}");
    std::fs::write(&path, text).unwrap();
    world.start().stop().unwrap();
}

#[test]
fn a_ledger_of_several_needs_each_name_once_and_each_address() {
    let world = World::new();
    let mut genesis = world.genesis.clone();
    let other = crate::world::secret(7);
    let mut second = genesis.validators[0].clone();
    second.key = other.public();
    second.possession = quipu_crypto::suite::sign_tagged(
        &other,
        &quipu_types::Hash::ZERO,
        0,
        quipu_crypto::domain::Tag::Possession,
        &quipu_types::Encode::to_bytes(&other.public()),
    );
    genesis.validators.push(second);
    let write = |genesis: &quipu_types::Genesis| {
        std::fs::write(world.root.path().join("genesis.json"), genesis.to_json()).unwrap();
    };
    write(&genesis);
    let twice = refused(world.config());
    assert_eq!(twice.code(), code::GENESIS);
    assert!(twice.to_string().contains("two validators are named"), "{twice}");
    genesis.validators[1].name = "other".into();
    write(&genesis);
    let mut config = world.config();
    config.listen.peer.set_port(0);
    let missing = refused(config.clone());
    assert_eq!(missing.code(), code::CONFIG);
    assert!(missing.to_string().contains("peers has no \"other\""), "{missing}");
    config.peers.insert("nobody".into(), "127.0.0.1:1".into());
    let unknown = refused(config);
    assert_eq!(unknown.code(), code::CONFIG);
    assert!(unknown.to_string().contains("peers.nobody"), "{unknown}");
}
