use hickory_proto::op::Edns;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::A;

use super::*;
use crate::model::{Addresses, Endpoint, Record, Subset};

fn resolver() -> Arc<Resolver> {
    let resolver = Resolver::new(Config::default());
    let endpoint = |n: u8| Endpoint { ip: [10, 42, 0, n].into(), hostname: None };
    let many = vec![Subset { ports: vec![], endpoints: (0..100).map(endpoint).collect() }];
    let upsert = |name: &str, addresses| {
        let record = Record { namespace: "default".into(), name: name.into(), addresses };
        resolver.apply(Update::Upsert(record));
    };
    let ips = vec![[10, 96, 0, 1].into()];
    upsert("web", Addresses::ClusterIp { ips, ports: vec![] });
    upsert("many", Addresses::Headless(many));
    resolver.apply(Update::Synced);
    resolver
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.metadata.recursion_desired = true;
    message
}

fn now(resolver: &Resolver, packet: &[u8], transport: Transport) -> Message {
    match resolver.handle(packet, transport) {
        Reply::Now(bytes) => Message::from_vec(&bytes).unwrap(),
        Reply::Later(_) => panic!("not answered at once"),
        Reply::Never => panic!("not answered"),
    }
}

fn ask(message: &Message, transport: Transport) -> Message {
    now(&resolver(), &message.to_vec().unwrap(), transport)
}

#[test]
fn an_answer_is_the_answer_to_the_question() {
    let question = question("wEb.default.svc.cluster.local.", RecordType::A);
    let answer = ask(&question, Transport::Udp);
    assert_eq!(answer.id, question.id);
    assert!(answer.authoritative && answer.recursion_available && answer.recursion_desired);
    assert!(answer.edns.is_none());
    assert!(answer.queries[0].name().eq_case(question.queries[0].name()));
    assert!(answer.answers[0].name.eq_case(question.queries[0].name()));
    assert_eq!(answer.answers[0].data, RData::A(A::new(10, 96, 0, 1)));
}

#[test]
fn datagrams_are_no_longer_than_the_client_allows() {
    let mut question = question("many.default.svc.cluster.local.", RecordType::A);
    let size = |answer: &Message| answer.to_vec().unwrap().len();
    let answer = ask(&question, Transport::Udp);
    assert!(answer.truncation && size(&answer) <= 512 && answer.answers.len() > 20);
    for (offered, granted) in [(0, 512), (800, 800), (4096, 1232)] {
        let mut edns = Edns::new();
        edns.set_max_payload(offered);
        question.set_edns(edns);
        let answer = ask(&question, Transport::Udp);
        // The encoder needs room for a name written out before it finds the shorter form.
        assert!(answer.truncation && size(&answer) <= granted && size(&answer) > granted - 60);
        assert_eq!(answer.edns.unwrap().max_payload(), 1232);
    }
    let answer = ask(&question, Transport::Tcp);
    assert!(!answer.truncation);
    assert_eq!(answer.answers.len(), 100);
}

#[test]
fn what_is_refused() {
    let valid = question("web.default.svc.cluster.local.", RecordType::A);

    let mut update = valid.clone();
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(ask(&update, Transport::Udp).response_code, ResponseCode::NotImp);

    let transfer = question("cluster.local.", RecordType::AXFR);
    assert_eq!(ask(&transfer, Transport::Tcp).response_code, ResponseCode::Refused);

    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(ask(&chaos, Transport::Udp).response_code, ResponseCode::Refused);

    let mut two = valid.clone();
    two.add_query(valid.queries[0].clone());
    assert_eq!(ask(&two, Transport::Udp).response_code, ResponseCode::FormErr);
    let none = Message::query();
    assert_eq!(ask(&none, Transport::Udp).response_code, ResponseCode::FormErr);

    let mut future = valid;
    let mut edns = Edns::new();
    edns.set_version(1);
    future.set_edns(edns);
    let refused = ask(&future, Transport::Udp);
    assert_eq!(u16::from(refused.response_code), u16::from(ResponseCode::BADVERS));
}

#[test]
fn answers_are_not_answered() {
    let resolver = resolver();
    let mut message = question("web.default.svc.cluster.local.", RecordType::A);
    message.metadata.message_type = MessageType::Response;
    let packet = message.to_vec().unwrap();
    assert!(matches!(resolver.handle(&packet, Transport::Udp), Reply::Never));
    assert!(matches!(resolver.handle(&[], Transport::Udp), Reply::Never));
    assert!(matches!(resolver.handle(&packet[..11], Transport::Udp), Reply::Never));
}

#[test]
fn cut_and_damaged_packets() {
    let resolver = resolver();
    let mut message = question("web.default.svc.cluster.local.", RecordType::A);
    message.set_edns(wire::edns(true));
    let packet = message.to_vec().unwrap();
    for length in 12..packet.len() {
        let answer = now(&resolver, &packet[..length], Transport::Udp);
        assert_eq!(answer.response_code, ResponseCode::FormErr, "{length}");
        assert_eq!(answer.id, message.id);
    }
    // A name that points at itself.
    let mut looped = packet[..12].to_vec();
    looped[11] = 0;
    looped.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(now(&resolver, &looped, Transport::Udp).response_code, ResponseCode::FormErr);
}

#[test]
fn noise_neither_stops_nor_grows_anything() {
    let resolver = resolver();
    let message = question("web.default.svc.cluster.local.", RecordType::A);
    let valid = message.to_vec().unwrap();
    // A fixed generator: a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..200_000 {
        let mut packet = valid.clone();
        for _ in 0..1 + random() % 8 {
            let at = random() as usize % packet.len();
            packet[at] = random() as u8;
        }
        packet.truncate(1 + random() as usize % packet.len());
        if let Reply::Now(answer) = resolver.handle(&packet, Transport::Udp) {
            assert!((12..=1232).contains(&answer.len()));
            assert_eq!(answer[..2], packet[..2]);
            assert!(answer[2] & 0x80 != 0);
        }
    }
}
