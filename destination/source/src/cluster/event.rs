//! Events: actions of the mesh on an object, as `kubectl describe` shows them.
//!
//! Not `kube_runtime::events::Recorder`: its `events.k8s.io/v1` Events lack count, first and last time and source,
//! which upstream's injector writes and `kubectl get events` prints; what it would replace is one request of forty
//! lines.

/// Object that an Event is about.
pub use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::{
    api::core::v1::{Event, EventSource},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};

use super::Client;
use crate::Error;

/// Longest text that the API server accepts.
const TEXT_MAX: usize = 1024;

/// Type of an Event.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Informational.
    Normal,
    /// Needs attention.
    Warning,
}

/// Event to write.
#[derive(Clone, Debug)]
pub struct Note<'a> {
    /// The object, with version, kind, name, namespace and uid.
    pub of: ObjectReference,
    /// Type.
    pub weight: Weight,
    /// Reason, one word in camel case, such as `Injected`.
    pub reason: &'a str,
    /// Message, a sentence.
    pub text: &'a str,
    /// Reporting program.
    pub by: &'a str,
}

/// Writes an Event.
pub async fn event(client: &Client, note: &Note<'_>) -> Result<(), Error> {
    let namespace = note.of.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let event = build(note, &namespace, Timestamp::now());
    let events: Api<Event> = Api::namespaced(client.raw().clone(), &namespace);
    let params = PostParams::default();
    let made = events.create(&params, &event);
    client.call("create events", made).await.map(|_| ())
}

fn build(note: &Note<'_>, namespace: &str, now: Timestamp) -> Event {
    let weight = match note.weight {
        Weight::Normal => "Normal",
        Weight::Warning => "Warning",
    };
    let name = note.of.name.as_deref().unwrap_or("unknown");
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}.")),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: note.of.clone(),
        type_: Some(weight.to_owned()),
        reason: Some(note.reason.to_owned()),
        message: Some(note.text.chars().take(TEXT_MAX / 4).collect::<String>()),
        action: Some(note.reason.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        event_time: Some(MicroTime(now)),
        reporting_component: Some(note.by.to_owned()),
        reporting_instance: Some(note.by.to_owned()),
        source: Some(EventSource {
            component: Some(note.by.to_owned()),
            ..EventSource::default()
        }),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncates_long_texts_and_names_the_object() {
        let note = Note {
            of: ObjectReference {
                name: Some("web".to_owned()),
                ..ObjectReference::default()
            },
            weight: Weight::Warning,
            reason: "Skipped",
            text: &"é".repeat(5000),
            by: "mesh-injector",
        };
        let event = build(&note, "a", Timestamp::UNIX_EPOCH);
        assert_eq!(event.metadata.generate_name.as_deref(), Some("web."));
        assert!(event.message.expect("a text").len() <= TEXT_MAX);
    }
}
