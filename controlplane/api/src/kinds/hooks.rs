//! What is special about a kind: defaults, preparation and validation, written over typed objects and called
//! over untyped ones.
//!
//! Must not know: how a verb is carried out.

use k8s_openapi::serde::{Deserialize as _, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::field::Errors;

/// The rules of one kind, over its type of `k8s-openapi`. Everything has a default of "nothing special".
pub trait Rules: 'static {
    type Object: Serialize + DeserializeOwned;

    /// Fills what the client left out, as upstream's `SetDefaults_*` do. Must be idempotent.
    fn defaults(_object: &mut Self::Object) {}

    /// Clears what a client may not set on create (status, …), sets what the server does (generation is generic).
    fn prepare_create(_object: &mut Self::Object) {}

    /// Keeps what a client may not change: through the main resource the status, through `status` all but it.
    /// `subresource` is empty for the main resource.
    fn prepare_update(_new: &mut Self::Object, _old: &Self::Object, _subresource: &str) {}

    /// Checks the object by itself. Object metadata is checked generically, before.
    fn validate(_object: &Self::Object, _errors: &mut Errors) {}

    /// Checks the change: immutable fields and the like. `validate` runs too, before.
    fn validate_update(_new: &Self::Object, _old: &Self::Object, _subresource: &str, _errors: &mut Errors) {}

    /// Warnings for the client (the `Warning` header).
    fn warnings(_object: &Self::Object) -> Vec<String> {
        Vec::new()
    }
}

type Decoded<T> = Result<T, serde_json::Error>;

/// The rules of a kind, callable over untyped objects. `None` costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Hooks {
    pub defaults: Option<fn(&mut Value) -> Decoded<()>>,
    /// Prepares and validates a new object, after admission.
    pub create: Option<fn(&mut Value) -> Decoded<Errors>>,
    /// Prepares and validates `new` against `old`, after admission.
    pub update: Option<fn(&mut Value, &Value, &str) -> Decoded<Errors>>,
    pub warnings: Option<fn(&Value) -> Decoded<Vec<String>>>,
}

impl Hooks {
    pub const NONE: Self = Self { defaults: None, create: None, update: None, warnings: None };

    /// Every hook of `R`.
    pub const fn of<R: Rules>() -> Self {
        Self {
            defaults: Some(defaults::<R>),
            create: Some(create::<R>),
            update: Some(update::<R>),
            warnings: Some(warnings::<R>),
        }
    }
}

fn typed<R: Rules>(object: &Value) -> Decoded<R::Object> {
    // by reference: no copy of the tree, only of its strings
    R::Object::deserialize(object)
}

fn defaults<R: Rules>(object: &mut Value) -> Decoded<()> {
    let mut it = typed::<R>(object)?;
    R::defaults(&mut it);
    *object = serde_json::to_value(it)?;
    Ok(())
}

fn create<R: Rules>(object: &mut Value) -> Decoded<Errors> {
    let mut it = typed::<R>(object)?;
    let mut errors = Errors::new();
    R::prepare_create(&mut it);
    R::validate(&it, &mut errors);
    *object = serde_json::to_value(it)?;
    Ok(errors)
}

fn update<R: Rules>(new: &mut Value, old: &Value, subresource: &str) -> Decoded<Errors> {
    let (mut it, old) = (typed::<R>(new)?, typed::<R>(old)?);
    let mut errors = Errors::new();
    R::prepare_update(&mut it, &old, subresource);
    R::validate(&it, &mut errors);
    R::validate_update(&it, &old, subresource, &mut errors);
    *new = serde_json::to_value(it)?;
    Ok(errors)
}

fn warnings<R: Rules>(object: &Value) -> Decoded<Vec<String>> {
    Ok(R::warnings(&typed::<R>(object)?))
}
