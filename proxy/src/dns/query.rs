//! One query packet → one reply packet, from the model or by way of the host's resolvers.
//!
//! Must not know: sockets that clients use.

use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use parking_lot::RwLock;

use super::answer::{Outcome, Zone, answer};
use super::forward::Forwarder;
use crate::model::Model;

/// What fits any path without fragments; also what we say we take.
const EDNS_PAYLOAD: u16 = 1232;
/// An alias may lead to an alias.
const MAX_ALIASES: usize = 8;

/// How a query came, which limits the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Everything an answer can come from.
pub struct Resolver {
    pub model: Arc<RwLock<Model>>,
    pub zone: Zone,
    pub forwarder: Forwarder,
}

/// An answer that needs no waiting, or one that does.
pub enum Answered {
    Now(Option<Vec<u8>>),
    Later(Box<Pending>),
}

/// A query that the host's resolvers have a part in.
pub struct Pending {
    request: Message,
    packet: Vec<u8>,
    alias: Option<(Vec<Record>, Name)>,
    transport: Transport,
}

impl Resolver {
    /// Answers from the model where that is enough. A packet that is no query gets no answer.
    pub fn answer(&self, packet: &[u8], transport: Transport) -> Answered {
        let Ok(request) = Message::from_vec(packet) else { return Answered::Now(malformed(packet)) };
        if request.metadata.message_type != MessageType::Query {
            return Answered::Now(None);
        }
        let Some(query) = request.queries.first().filter(|_| request.queries.len() == 1).cloned() else {
            return Answered::Now(refusal(&request, ResponseCode::FormErr, transport));
        };
        if request.metadata.op_code != OpCode::Query {
            return Answered::Now(refusal(&request, ResponseCode::NotImp, transport));
        }
        let later = |alias| {
            Answered::Later(Box::new(Pending { request: request.clone(), packet: packet.to_vec(), alias, transport }))
        };
        if query.query_class() != DNSClass::IN {
            return later(None);
        }
        let mut reply = reply_to(&request);
        let mut name = query.name().clone();
        for _ in 0..MAX_ALIASES {
            match answer(&self.model.read(), &self.zone, &name, query.query_type()) {
                Outcome::NotOurs if reply.answers.is_empty() => return later(None),
                Outcome::NotOurs => return later(Some((reply.answers, name))),
                Outcome::Alias(alias) => {
                    reply.add_answer(alias.record);
                    if query.query_type() == RecordType::CNAME {
                        return Answered::Now(encode(&reply, &request, transport));
                    }
                    name = alias.target;
                }
                outcome => return Answered::Now(self.finish(reply, outcome, &request, transport)),
            }
        }
        Answered::Now(refusal(&request, ResponseCode::ServFail, transport))
    }

    fn finish(&self, mut reply: Message, outcome: Outcome, request: &Message, transport: Transport) -> Option<Vec<u8>> {
        match outcome {
            Outcome::Records { mut answers, additionals } => {
                let shift = if answers.is_empty() { 0 } else { rand::random_range(0..answers.len()) };
                answers.rotate_left(shift);
                reply.add_answers(answers);
                reply.add_additionals(additionals);
            }
            _ => reply.metadata.response_code = ResponseCode::NXDomain,
        }
        if reply.answers.is_empty() {
            reply.add_authorities(self.zone.soa());
        }
        encode(&reply, request, transport)
    }

    /// Asks the host's resolvers. Their packet goes through as it is, unless it is part of an alias' answer.
    pub async fn complete(&self, pending: Box<Pending>) -> Option<Vec<u8>> {
        let Pending { request, packet, alias, transport } = *pending;
        let failed = || refusal(&request, ResponseCode::ServFail, transport);
        let Some((answers, target)) = alias else {
            return self.forwarder.forward(&packet, transport).await.or_else(failed);
        };
        let mut reply = reply_to(&request);
        reply.add_answers(answers);
        let kind = request.queries.first().map_or(RecordType::A, Query::query_type);
        if let Some(found) = self.look_up(target, kind).await {
            reply.metadata.response_code = found.metadata.response_code;
            reply.add_answers(found.answers);
        }
        encode(&reply, &request, transport)
    }

    async fn look_up(&self, name: Name, kind: RecordType) -> Option<Message> {
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name, kind));
        let packet = question.to_vec().ok()?;
        let reply = self.forwarder.forward(&packet, Transport::Tcp).await?;
        Message::from_vec(&reply).ok()
    }
}

fn reply_to(request: &Message) -> Message {
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = true;
    reply.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(EDNS_PAYLOAD);
        reply.set_edns(edns);
    }
    reply
}

fn refusal(request: &Message, code: ResponseCode, transport: Transport) -> Option<Vec<u8>> {
    let mut reply = reply_to(request);
    reply.metadata.authoritative = false;
    reply.metadata.response_code = code;
    encode(&reply, request, transport)
}

/// FORMERR for a query that cannot be read but has an identifier.
fn malformed(packet: &[u8]) -> Option<Vec<u8>> {
    let [high, low, flags, ..] = packet else { return None };
    if packet.len() < 12 || flags & 0x80 != 0 {
        return None;
    }
    let id = u16::from_be_bytes([*high, *low]);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok()
}

/// The reply's bytes; over UDP, when they are too many, only the notice to ask again over TCP.
fn encode(reply: &Message, request: &Message, transport: Transport) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    let limit = match transport {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp => usize::from(request.max_payload().min(4096)),
    };
    if bytes.len() <= limit { Some(bytes) } else { reply.truncate().to_vec().ok() }
}
