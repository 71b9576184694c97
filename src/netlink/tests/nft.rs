//! nf_tables against the kernel, in network namespaces of the test's own. Needs root.

use std::time::Duration;

use netlink::Netns;
use netlink::nft::{
    BaseChain, Batch, ChainKind, Comparison, CtKey, Element, Family, FibResult, Hook, Key, MetaKey,
    Nft, Policy, Reg, Reject, Selector, Set, SetData, SetFlags, Type, Verdict,
};

const R0: Reg = Reg::new(0);
const R1: Reg = Reg::new(1);
const R2: Reg = Reg::new(2);
const R3: Reg = Reg::new(3);

fn nft() -> (Netns, Nft) {
    let netns = Netns::create().expect("making a network namespace needs root");
    let nft = Nft::open_in(&netns).expect("a netfilter socket in a new namespace");
    (netns, nft)
}

fn batch() -> Batch {
    Batch::new(Family::Ip, "t")
}

fn service(n: u32, port: u16) -> Key {
    Key::new().ipv4((0x0a2b_0000 + n).into()).protocol(6).port(port)
}

const SERVICE: &[Type] = &[Type::Ipv4, Type::Protocol, Type::Port];

/// One rule of each expression, and sets of each kind.
fn everything() -> Batch {
    let mut b = batch();
    b.add_table("of a test");
    let policy = Policy::Accept;
    let hook = |name, kind, hook| BaseChain { name, kind, hook, priority: -10, policy };
    b.add_base_chain(&hook("pre", ChainKind::Nat, Hook::Prerouting));
    b.add_base_chain(&hook("post", ChainKind::Nat, Hook::Postrouting));
    b.add_base_chain(&hook("forward", ChainKind::Filter, Hook::Forward));
    b.add_base_chain(&hook("mangle", ChainKind::Route, Hook::Output));
    b.add_chain("lb");
    b.add_set(&Set {
        name: "services",
        key: SERVICE,
        data: SetData::Value(&[Type::Mark]),
        comment: "a comment",
        ..Set::default()
    });
    b.add_set(&Set { name: "lb", key: &[Type::Mark], data: SetData::Verdict, ..Set::default() });
    b.add_set(&Set {
        name: "endpoints",
        key: &[Type::Mark, Type::Mark],
        data: SetData::Value(&[Type::Ipv4, Type::Port]),
        ..Set::default()
    });
    b.add_set(&Set {
        name: "affinity",
        key: &[Type::Ipv4, Type::Mark],
        data: SetData::Value(&[Type::Mark]),
        flags: SetFlags::TIMEOUT | SetFlags::DYNAMIC,
        size: Some(1000),
        gc_interval: Some(Duration::from_secs(60)),
        ..Set::default()
    });
    b.add_set(&Set {
        name: "ranges",
        key: &[Type::Ipv4, Type::Protocol, Type::Port, Type::Ipv4],
        flags: SetFlags::INTERVAL,
        ..Set::default()
    });
    b.add_elements("services").push(&Element {
        comment: "default/web",
        ..Element::data(service(1, 80).as_bytes(), &3u32.to_ne_bytes())
    });
    b.add_elements("lb").push(&Element::verdict(&3u32.to_ne_bytes(), Verdict::Goto("lb")));
    b.add_elements("endpoints").push(&Element::data(
        Key::new().mark(7).mark(0).as_bytes(),
        Key::new().ipv4([10, 42, 0, 2].into()).port(8080).as_bytes(),
    ));
    b.add_elements("ranges").push(&Element {
        key_end: Some(service(1, 80).ipv4([10, 1, 255, 255].into()).as_bytes()),
        ..Element::key(service(1, 80).ipv4([10, 1, 0, 0].into()).as_bytes())
    });
    let anonymous =
        b.add_anonymous_set(&Set { key: &[Type::Port], size: Some(2), ..Set::default() });
    b.add_elements(anonymous).push(&Element::key(Key::new().port(22).single(2).as_bytes()));
    b.rule("forward", |e| {
        e.destination_port(R0).contained(anonymous, R0).counter().verdict(Verdict::Drop);
    });
    b.commented_rule("pre", "the services", |e| {
        e.destination(R0).meta(R1, MetaKey::TransportProtocol).destination_port(R2);
        e.map("services", R0, R0).verdict_map("lb", R0);
    });
    b.rule("pre", |e| {
        e.destination(R0).meta(R1, MetaKey::TransportProtocol).destination_port(R2).source(R3);
        e.not_contained("ranges", R0).verdict(Verdict::Return);
    });
    b.rule("pre", |e| {
        e.fib(R0, Selector::Destination, FibResult::AddressType);
        e.compare(R0, Comparison::NotEqual, &FibResult::LOCAL.to_ne_bytes());
        e.meta(R0, MetaKey::Mark).bitwise(R0, &(!4u32).to_ne_bytes(), &4u32.to_ne_bytes());
        e.set_meta(MetaKey::Mark, R0);
    });
    b.rule("lb", |e| {
        e.source(R0).immediate(R1, &9u32.to_ne_bytes()).random(R2, 3);
        e.forget("affinity", R0, Some(R2));
        e.remember("affinity", R0, Some(R2), Duration::from_secs(10));
        e.map("endpoints", R1, R0).destination_nat(R0, Some(R1));
    });
    b.rule("post", |e| {
        e.ct(R0, CtKey::Status);
        e.bitwise(R0, &CtKey::DESTINATION_TRANSLATED.to_ne_bytes(), &[0; 4]);
        e.compare(R0, Comparison::Equal, &[0; 4]).masquerade();
    });
    b.rule("post", |e| {
        e.immediate(R0, &[10, 42, 0, 1]).source_nat(R0);
    });
    for how in [Reject::TcpReset, Reject::PortUnreachable, Reject::Prohibited] {
        b.rule("forward", |e| {
            e.meta(R0, MetaKey::TransportProtocol);
            e.compare(R0, Comparison::Equal, &[6]).reject(how);
        });
    }
    b
}

#[test]
fn everything_loads_and_reads_back() {
    let (_netns, mut nft) = nft();
    assert_eq!(nft.table(Family::Ip, "t").unwrap(), None);
    nft.commit(everything()).unwrap();
    let table = nft.table(Family::Ip, "t").unwrap().unwrap();
    // Five chains and five sets; one that has no name counts with its rule.
    assert_eq!(table.objects, 10);

    let chains = nft.chains().unwrap();
    let forward = chains.iter().find(|c| c.name == "forward").unwrap();
    assert_eq!((forward.table.as_str(), forward.kind.as_str()), ("t", "filter"));
    assert_eq!(forward.hook.unwrap().priority, -10);
    assert!(!forward.drops_at(Hook::Forward));
    assert!(chains.iter().find(|c| c.name == "lb").unwrap().hook.is_none());

    let services = nft.elements(Family::Ip, "t", "services").unwrap();
    assert_eq!(services.len(), 1);
    assert_eq!(services[0].key, service(1, 80).as_bytes());
    assert_eq!(services[0].data, 3u32.to_ne_bytes());
    let ranges = nft.elements(Family::Ip, "t", "ranges").unwrap();
    assert_eq!(ranges[0].key_end.as_deref().unwrap()[12..], [10, 1, 255, 255]);
    assert!(nft.elements(Family::Ip, "t", "none").unwrap_err().is_not_found());

    let mut b = batch();
    b.delete_table();
    nft.commit(b).unwrap();
    assert_eq!(nft.table(Family::Ip, "t").unwrap(), None);
}

#[test]
fn a_batch_is_all_or_nothing_and_names_what_was_refused() {
    let (_netns, mut nft) = nft();
    nft.commit(everything()).unwrap();
    let mut b = batch();
    b.add_elements("services").push(&Element::data(service(2, 80).as_bytes(), &1u32.to_ne_bytes()));
    b.delete_elements("services").push(&Element::key(service(3, 80).as_bytes()));
    let error = nft.commit(b).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert_eq!(
        error.to_string(),
        "delete elements of set t services { 0a2b0003 06000000 00500000 }: \
         No such file or directory (os error 2)"
    );
    assert_eq!(nft.elements(Family::Ip, "t", "services").unwrap().len(), 1);

    let mut b = batch();
    b.add_elements("services").push(&Element::data(service(1, 80).as_bytes(), &4u32.to_ne_bytes()));
    assert!(nft.commit(b).unwrap_err().is_exists());

    let mut b = batch();
    b.rule("nowhere", |e| {
        e.verdict(Verdict::Accept);
    });
    let error = nft.commit(b).unwrap_err();
    assert!(error.to_string().starts_with("add rule of chain t nowhere: "), "{error}");

    let mut b = Batch::new(Family::Ip, "other");
    b.flush_set("services");
    assert!(nft.commit(b).unwrap_err().is_not_found());
}

#[test]
fn elements_are_replaced_and_expire_in_one_batch() {
    let (_netns, mut nft) = nft();
    nft.commit(everything()).unwrap();
    let mut b = batch();
    b.delete_elements("services").push(&Element::key(service(1, 80).as_bytes()));
    b.add_elements("services").push(&Element::data(service(1, 80).as_bytes(), &9u32.to_ne_bytes()));
    b.add_elements("affinity").push(&Element {
        timeout: Some(Duration::from_secs(100)),
        expiration: Some(Duration::from_secs(50)),
        ..Element::data(Key::new().mark(1).mark(2).as_bytes(), &3u32.to_ne_bytes())
    });
    nft.commit(b).unwrap();
    assert_eq!(nft.elements(Family::Ip, "t", "services").unwrap()[0].data, 9u32.to_ne_bytes());
    let sticky = nft.elements(Family::Ip, "t", "affinity").unwrap();
    assert_eq!(sticky[0].timeout, Some(Duration::from_secs(100)));
    assert!(sticky[0].expiration.unwrap() <= Duration::from_secs(50));
}

#[test]
fn many_elements_in_one_batch() {
    let (_netns, mut nft) = nft();
    nft.commit(everything()).unwrap();
    let mut b = batch();
    {
        let mut writer = b.add_elements("services");
        for n in 0..20_000 {
            writer.push(&Element::data(service(n, 443).as_bytes(), &n.to_ne_bytes()));
        }
    }
    nft.commit(b).unwrap();
    assert_eq!(nft.elements(Family::Ip, "t", "services").unwrap().len(), 20_001);
}

#[test]
fn without_a_table_every_request_is_refused() {
    let (_netns, mut nft) = nft();
    let mut b = batch();
    for n in 0..5000 {
        b.delete_chain(&format!("c{n}"));
    }
    let error = nft.commit(b).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert_eq!(nft.table(Family::Ip, "t").unwrap(), None);
}
