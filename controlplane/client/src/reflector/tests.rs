//! A reflector driven by a scripted API: every response is written down in order.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;

/// What the API answers to the next request.
enum Answer {
    Json(u16, Value),
    /// A watch; it stays open until its sender is dropped.
    Stream(mpsc::Receiver<Value>),
}

#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn then_json(&self, code: u16, body: Value) {
        self.answers.lock().unwrap().push_back(Answer::Json(code, body));
    }

    fn then_watch(&self) -> mpsc::Sender<Value> {
        let (sender, receiver) = mpsc::channel(100);
        self.answers.lock().unwrap().push_back(Answer::Stream(receiver));
        sender
    }

    fn client(&self) -> Client {
        let script = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let script = script.clone();
            async move { Ok::<_, Infallible>(script.answer(&request)) }
        });
        Client::new(service, "default")
    }

    fn answer(&self, request: &Request<Body>) -> Reply {
        self.asked.lock().unwrap().push(request.uri().to_string());
        match self.answers.lock().unwrap().pop_front() {
            Some(Answer::Json(code, body)) => respond(code, body),
            Some(Answer::Stream(receiver)) => stream(receiver),
            None => respond(503, json!({"message": "the script is over"})),
        }
    }
}

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn respond(code: u16, body: Value) -> Reply {
    Response::builder().status(code).body(Full::from(body.to_string()).boxed_unsync()).unwrap()
}

fn stream(receiver: mpsc::Receiver<Value>) -> Reply {
    let lines = futures::stream::unfold(receiver, |mut receiver| async move {
        let event = receiver.recv().await?;
        Some((Ok(Frame::data(Bytes::from(format!("{event}\n")))), receiver))
    });
    Response::new(StreamBody::new(lines).boxed_unsync())
}

fn map(name: &str, uid: &str, version: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name, "uid": uid,
        "resourceVersion": version.to_string(), "managedFields": [{"manager": "kubectl"}]}})
}

fn list(version: u32, items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": version.to_string()}, "items": items})
}

fn event(type_: &str, object: Value) -> Value {
    json!({"type": type_, "object": object})
}

fn gone() -> Value {
    event(
        "ERROR",
        json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version", "metadata": {}}),
    )
}

fn start(script: &Script) -> (Reflector<ConfigMap>, CancellationToken) {
    let cancel = CancellationToken::new();
    (Reflector::start(Api::all(script.client()), watcher::Config::default(), cancel.clone()), cancel)
}

/// The changes as words: `+name:uid@version`, `~name:uid@old>new`, `-name:uid`.
fn words(changes: &[Change<ConfigMap>]) -> Vec<String> {
    let version = |object: &ConfigMap| object.metadata.resource_version.clone().unwrap_or_default();
    let name = |object: &ConfigMap| {
        format!("{}:{}", object.metadata.name.as_deref().unwrap(), object.metadata.uid.as_deref().unwrap())
    };
    let word = |change: &Change<ConfigMap>| match change {
        Change::Added(new) => format!("+{}@{}", name(new), version(new)),
        Change::Modified { old, new } => format!("~{}@{}>{}", name(new), version(old), version(new)),
        Change::Deleted(old) => format!("-{}", name(old)),
    };
    let mut words: Vec<String> = changes.iter().map(word).collect();
    words.sort();
    words
}

/// Waits until `wanted` changes came, however they were batched.
async fn take(subscription: &mut Subscription<ConfigMap>, wanted: usize) -> Vec<String> {
    let mut changes = Vec::new();
    while changes.len() < wanted {
        changes.extend(subscription.next().await.expect("the watch goes on"));
    }
    words(&changes)
}

#[tokio::test]
async fn a_subscriber_gets_what_is_there_and_then_every_change_with_old_and_new() {
    let script = Script::default();
    script.then_json(200, list(10, &[map("a", "1", 5), map("b", "2", 7)]));
    let watch = script.then_watch();
    let (reflector, _cancel) = start(&script);
    reflector.synced().await;
    let mut subscription = reflector.subscribe();
    assert_eq!(take(&mut subscription, 2).await, ["+a:1@5", "+b:2@7"]);
    watch.send(event("MODIFIED", map("a", "1", 11))).await.unwrap();
    assert_eq!(take(&mut subscription, 1).await, ["~a:1@5>11"]);
    watch.send(event("DELETED", map("b", "2", 12))).await.unwrap();
    assert_eq!(take(&mut subscription, 1).await, ["-b:2"]);
    assert_eq!(reflector.len(), 1);
    let kept = reflector.get("default", "a").unwrap();
    assert_eq!(kept.metadata.managed_fields, None);
    assert!(reflector.get("default", "b").is_none());
}

#[tokio::test]
async fn a_name_that_came_back_is_a_delete_and_an_add() {
    let script = Script::default();
    script.then_json(200, list(10, &[map("a", "1", 5)]));
    let watch = script.then_watch();
    let (reflector, _cancel) = start(&script);
    let mut subscription = reflector.subscribe();
    assert_eq!(take(&mut subscription, 1).await, ["+a:1@5"]);
    watch.send(event("DELETED", map("a", "1", 11))).await.unwrap();
    watch.send(event("ADDED", map("a", "2", 12))).await.unwrap();
    assert_eq!(take(&mut subscription, 2).await, ["+a:2@12", "-a:1"]);
}

#[tokio::test]
async fn changes_of_one_object_that_nobody_has_read_yet_become_one() {
    let script = Script::default();
    script.then_json(200, list(10, &[map("a", "1", 5)]));
    let watch = script.then_watch();
    let (reflector, _cancel) = start(&script);
    let (mut slow, mut quick) = (reflector.subscribe(), reflector.subscribe());
    assert_eq!(take(&mut slow, 1).await, ["+a:1@5"]);
    assert_eq!(take(&mut quick, 1).await, ["+a:1@5"]);
    for version in 11..15 {
        watch.send(event("MODIFIED", map("a", "1", version))).await.unwrap();
    }
    watch.send(event("ADDED", map("b", "2", 15))).await.unwrap();
    watch.send(event("DELETED", map("b", "2", 16))).await.unwrap();
    watch.send(event("ADDED", map("c", "3", 17))).await.unwrap();
    while !words(&quick.next().await.unwrap()).contains(&"+c:3@17".to_owned()) {}
    assert_eq!(words(&slow.next().await.unwrap()), ["+b:2@15", "+c:3@17", "-b:2", "~a:1@5>14"]);
}

#[tokio::test]
async fn what_came_and_went_unread_is_told_though_its_name_came_back() {
    let script = Script::default();
    script.then_json(200, list(10, &[]));
    let watch = script.then_watch();
    let (reflector, _cancel) = start(&script);
    let (mut slow, mut quick) = (reflector.subscribe(), reflector.subscribe());
    watch.send(event("ADDED", map("a", "1", 11))).await.unwrap();
    watch.send(event("DELETED", map("a", "1", 12))).await.unwrap();
    watch.send(event("ADDED", map("a", "2", 13))).await.unwrap();
    watch.send(event("MODIFIED", map("a", "2", 14))).await.unwrap();
    while !words(&quick.next().await.unwrap()).iter().any(|word| word.ends_with("@14") || word.ends_with(">14")) {}
    assert_eq!(words(&slow.next().await.unwrap()), ["+a:1@11", "+a:2@14", "-a:1"]);
}

#[tokio::test]
async fn after_410_the_differences_of_the_new_list_are_delivered_deletes_included() {
    let script = Script::default();
    script.then_json(
        200,
        list(10, &[map("same", "1", 5), map("gone", "2", 6), map("changed", "3", 7), map("new", "4", 8)]),
    );
    let watch = script.then_watch();
    script.then_json(
        200,
        list(30, &[map("same", "1", 5), map("changed", "3", 20), map("new", "9", 21), map("more", "5", 22)]),
    );
    let _second_watch = script.then_watch();
    let (reflector, _cancel) = start(&script);
    let mut subscription = reflector.subscribe();
    take(&mut subscription, 4).await;
    watch.send(gone()).await.unwrap();
    let expected = ["+more:5@22", "+new:9@21", "-gone:2", "-new:4", "~changed:3@7>20"];
    assert_eq!(take(&mut subscription, 5).await, expected);
    assert!(reflector.get("default", "gone").is_none());
}

#[tokio::test]
async fn a_watch_that_breaks_off_goes_on_from_the_last_revision() {
    let script = Script::default();
    script.then_json(500, json!({"kind": "Status", "status": "Failure", "code": 500, "message": "starting", "reason": "", "metadata": {}}));
    script.then_json(200, list(10, &[]));
    let watch = script.then_watch();
    let resumed = script.then_watch();
    let (reflector, _cancel) = start(&script);
    let mut subscription = reflector.subscribe();
    watch.send(event("ADDED", map("a", "1", 11))).await.unwrap();
    assert_eq!(take(&mut subscription, 1).await, ["+a:1@11"]);
    drop(watch);
    resumed.send(event("ADDED", map("b", "2", 12))).await.unwrap();
    assert_eq!(take(&mut subscription, 1).await, ["+b:2@12"]);
    let asked = script.asked.lock().unwrap().clone();
    assert!(asked.last().unwrap().contains("resourceVersion=11"), "{asked:?}");
    assert!(reflector.is_synced());
}

#[tokio::test]
async fn cancelling_ends_the_subscription_after_what_was_pending() {
    let script = Script::default();
    script.then_json(200, list(10, &[map("a", "1", 5)]));
    let _watch = script.then_watch();
    let (reflector, cancel) = start(&script);
    reflector.synced().await;
    let mut subscription = reflector.subscribe();
    cancel.cancel();
    assert_eq!(words(&subscription.next().await.unwrap()), ["+a:1@5"]);
    assert!(subscription.next().await.is_none());
}
