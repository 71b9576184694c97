//! One question in, one answer out: from the cluster's zones, else from the upstream servers.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::forward::{Forwarder, Request};
use crate::model::{Config, Update};
use crate::store::Store;
use crate::wire;
use crate::zone::{Answer, Zone};

/// Clients that may wait for upstream servers at the same time.
const MAX_WAITING: usize = 2048;

/// The transport that a question came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What is to be done about a packet.
pub(crate) enum Reply {
    /// Send this.
    Now(Vec<u8>),
    /// Wait for this.
    Later(Box<Pending>),
    /// It is no question: silence.
    Never,
}

/// A DNS server without its sockets: the state shared by all listeners, fed by the agent.
#[derive(Debug)]
pub struct Resolver {
    zone: RwLock<Zone>,
    forwarder: Arc<Forwarder>,
    waiting: Arc<Semaphore>,
}

impl Resolver {
    /// A server that knows no service yet: until the first [`Update::Synced`] it answers SERVFAIL
    /// for names that it has not been told.
    pub fn new(config: Config) -> Arc<Self> {
        let forwarder = Forwarder::new(config.resolv_conf.clone(), config.addresses.clone());
        // Seconds make a serial number that grows over restarts too.
        let serial = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let zone = Zone::new(config, Store::new(serial as u32));
        Arc::new(Self {
            zone: RwLock::new(zone),
            forwarder: Arc::new(forwarder),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        })
    }

    /// Takes over a new configuration; the records stay.
    pub fn configure(&self, config: Config) {
        self.forwarder.configure(config.resolv_conf.clone(), config.addresses.clone());
        let mut zone = self.zone.write().unwrap_or_else(PoisonError::into_inner);
        if *zone.config() != config {
            zone.configure(config);
        }
    }

    /// Begins a full transfer: what is not repeated before the next [`Update::Synced`] is dropped.
    pub fn begin(&self) {
        self.zone.write().unwrap_or_else(PoisonError::into_inner).store.begin();
    }

    /// Takes over one change.
    pub fn apply(&self, update: Update) {
        self.zone.write().unwrap_or_else(PoisonError::into_inner).store.apply(update);
    }

    /// Whether the records have been complete at least once.
    pub fn is_synced(&self) -> bool {
        self.zone.read().unwrap_or_else(PoisonError::into_inner).store.synced()
    }

    /// Looks at a packet from a stranger.
    pub(crate) fn handle(&self, packet: &[u8], transport: Transport) -> Reply {
        // An answer to an answer could go on for ever.
        if packet.len() < wire::HEADER || packet[2] & 0x80 != 0 {
            return Reply::Never;
        }
        let Ok(message) = Message::from_vec(packet) else {
            return Reply::Now(format_error(packet));
        };
        let client = match Client::new(&message, transport) {
            Ok(client) => client,
            Err(code) => return Reply::Now(refuse(&message, code)),
        };
        let Some(end) = wire::question_end(packet) else {
            return Reply::Now(refuse(&message, ResponseCode::FormErr));
        };
        let question = &packet[wire::HEADER..end];
        if self.forwarder.is_probe(question) {
            return Reply::Now(refuse(&message, ResponseCode::Refused));
        }
        let answer = {
            let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
            zone.answer(client.query.name(), client.query.query_type())
        };
        match answer {
            Some(answer) if answer.alias.is_some() => {
                self.later(client, Task::Alias(answer.into()))
            }
            Some(answer) => Reply::Now(client.answer(answer)),
            None => {
                let request = Request { question: question.into(), flags: client.flags() };
                match self.forwarder.cached(&request) {
                    Some(response) => Reply::Now(client.pass_on(response, question)),
                    None => self.later(client, Task::Forward(request)),
                }
            }
        }
    }

    fn later(&self, client: Client, task: Task) -> Reply {
        match self.waiting.clone().try_acquire_owned() {
            Ok(permit) => {
                let forwarder = self.forwarder.clone();
                Reply::Later(Box::new(Pending { forwarder, client, task, _permit: permit }))
            }
            Err(_) => Reply::Now(client.fail()),
        }
    }
}

/// An answer that upstream servers have to contribute to.
pub(crate) struct Pending {
    forwarder: Arc<Forwarder>,
    client: Client,
    task: Task,
    _permit: OwnedSemaphorePermit,
}

enum Task {
    Forward(Request),
    /// The addresses of an ExternalName: stub resolvers expect them beside the alias.
    Alias(Box<Answer>),
}

impl Pending {
    /// Waits for the upstream servers and makes the answer to the client.
    pub(crate) async fn finish(self) -> Vec<u8> {
        match self.task {
            Task::Forward(request) => {
                let question = request.question.clone();
                match self.forwarder.resolve(request).await {
                    Some(response) => self.client.pass_on(response, &question),
                    None => self.client.fail(),
                }
            }
            Task::Alias(mut answer) => {
                let kind = self.client.query.query_type();
                let target = answer.alias.take().unwrap_or_default();
                let response = match question_of(target, kind) {
                    Some(question) => {
                        // The answer is built anew, so a DNSSEC client gets no signatures.
                        let flags = Request::RECURSION_DESIRED | Request::TCP;
                        let request = Request { question, flags };
                        match self.forwarder.cached(&request) {
                            Some(response) => Some(response),
                            None => self.forwarder.resolve(request).await,
                        }
                    }
                    None => None,
                };
                match response.and_then(|response| Message::from_vec(&response).ok()) {
                    Some(response) => {
                        answer.code = response.metadata.response_code;
                        answer.answers.extend(response.answers);
                    }
                    None => answer.code = ResponseCode::ServFail,
                }
                self.client.answer(*answer)
            }
        }
    }
}

/// What of a question its answer depends on.
struct Client {
    id: u16,
    recursion_desired: bool,
    checking_disabled: bool,
    authentic_data: bool,
    query: Query,
    /// Whether there is an EDNS record, and if so whether it asks for DNSSEC.
    edns: Option<bool>,
    transport: Transport,
    limit: u16,
}

impl Client {
    fn new(message: &Message, transport: Transport) -> Result<Self, ResponseCode> {
        if message.op_code != OpCode::Query {
            return Err(ResponseCode::NotImp);
        }
        let [query] = message.queries.as_slice() else { return Err(ResponseCode::FormErr) };
        if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return Err(ResponseCode::BADVERS);
        }
        let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || transfer {
            return Err(ResponseCode::Refused);
        }
        let limit = match transport {
            Transport::Tcp => u16::MAX,
            Transport::Udp => message.max_payload().clamp(wire::MIN_UDP, wire::MAX_UDP),
        };
        Ok(Self {
            id: message.id,
            recursion_desired: message.recursion_desired,
            checking_disabled: message.checking_disabled,
            authentic_data: message.authentic_data,
            query: query.clone(),
            edns: message.edns.as_ref().map(|edns| edns.flags().dnssec_ok),
            transport,
            limit,
        })
    }

    fn flags(&self) -> u8 {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        flag(self.recursion_desired, Request::RECURSION_DESIRED)
            | flag(self.checking_disabled, Request::CHECKING_DISABLED)
            | flag(self.authentic_data, Request::AUTHENTIC_DATA)
            | flag(self.edns.is_some(), Request::EDNS)
            | flag(self.edns == Some(true), Request::DNSSEC_OK)
            | flag(self.transport == Transport::Tcp, Request::TCP)
    }

    fn response(&self, code: ResponseCode) -> Message {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.add_query(self.query.clone());
        if let Some(dnssec_ok) = self.edns {
            message.set_edns(wire::edns(dnssec_ok));
        }
        message
    }

    fn fail(&self) -> Vec<u8> {
        let mut message = self.response(ResponseCode::ServFail);
        wire::encode(&mut message, self.limit).unwrap_or_default()
    }

    fn answer(&self, answer: Answer) -> Vec<u8> {
        let mut message = self.response(answer.code);
        message.metadata.authoritative = answer.code != ResponseCode::ServFail;
        message.answers = answer.answers;
        message.additionals = answer.additionals;
        message.authorities = answer.authority.into_iter().collect();
        wire::encode(&mut message, self.limit).unwrap_or_else(|| self.fail())
    }

    /// Makes an upstream server's answer the client's own.
    fn pass_on(&self, mut response: Vec<u8>, question: &[u8]) -> Vec<u8> {
        response[..2].copy_from_slice(&self.id.to_be_bytes());
        response[2] = response[2] & !0x01 | u8::from(self.recursion_desired);
        response[3] |= 0x80;
        let end = wire::HEADER + question.len();
        if let Some(echo) = response.get_mut(wire::HEADER..end) {
            echo.copy_from_slice(question);
        }
        if response.len() > usize::from(self.limit) {
            wire::truncate(&mut response);
            if let Some(dnssec_ok) = self.edns {
                wire::push_opt(&mut response, dnssec_ok);
            }
        }
        response
    }
}

fn question_of(name: Name, kind: RecordType) -> Option<Box<[u8]>> {
    let bytes = Query::query(name, kind).to_bytes().ok()?;
    Some(bytes.into())
}

/// Says no to a question that could be read.
fn refuse(message: &Message, code: ResponseCode) -> Vec<u8> {
    let mut response = Message::new(message.id, MessageType::Response, message.op_code);
    response.metadata.recursion_desired = message.recursion_desired;
    response.metadata.response_code = code;
    response.queries.clone_from(&message.queries);
    if message.edns.is_some() {
        response.set_edns(wire::edns(false));
    }
    wire::encode(&mut response, wire::MIN_UDP).unwrap_or_default()
}

/// Says no to what could not be read: the id is all that is certain.
fn format_error(packet: &[u8]) -> Vec<u8> {
    let mut response = vec![0; wire::HEADER];
    response[..2].copy_from_slice(&packet[..2]);
    response[2] = 0x80 | packet[2] & 0x79;
    response[3] = 1;
    response
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
