//! What is special about a kind: defaults, preparation and validation, written over typed objects and called
//! over untyped ones.
//!
//! Must not know: how a verb is carried out.

use k8s_openapi::serde::de::{DeserializeOwned, value::MapDeserializer};
use k8s_openapi::serde::{Deserialize as _, Serialize};
use serde_json::Value;

use super::status::{self, StatusRule};
use crate::field::Errors;

/// The rules of one kind, over its type of `k8s-openapi`. Everything has a default of "nothing special"; the
/// constants say which of them exist, so that the others cost nothing.
///
/// The API server has set name, namespace, UID and creation time before `prepare_create` is called.
pub trait Rules: 'static {
    type Object: Serialize + DeserializeOwned;

    /// Whether `defaults` does anything.
    const DEFAULTS: bool = true;
    /// Whether `prepare_*` and `validate*` do anything.
    const CHECKS: bool = true;
    /// Whether `prepare_*` do anything; false saves writing the object anew, which counts for what is written often.
    const PREPARES: bool = true;
    /// Whether they do so for updates of the `status` subresource too; the kubelet's are too many to pay for it.
    const STATUS_CHECKS: bool = false;
    /// Who may write the status; carried out before `prepare_*`, untyped.
    const STATUS: StatusRule = StatusRule::Cleared;
    const WARNINGS: bool = false;

    /// Fills what the client left out, as upstream's `SetDefaults_*` do. Must be idempotent.
    fn defaults(_object: &mut Self::Object) {}

    /// Clears what a client may not set on create beside the status, sets what the server does (generation is
    /// generic).
    fn prepare_create(_object: &mut Self::Object) {}

    /// Keeps what a client may not change beside the status. `subresource` is empty for the main resource.
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

/// `Err`: the object is not one of the kind's type.
pub type Decoded<T> = Result<T, serde_json::Error>;
/// Fills an object.
pub type Defaults = fn(&mut Value) -> Decoded<()>;
/// Prepares an object and says what is wrong with it.
pub type Create = fn(&mut Value) -> Decoded<Errors>;
/// `(new, old, subresource)`: prepares `new` and says what is wrong with it, or with the change.
pub type Update = fn(&mut Value, &Value, &str) -> Decoded<Errors>;
/// What to tell the client about an object that is well.
pub type Warnings = fn(&Value) -> Decoded<Vec<String>>;

/// The rules of a kind, callable over untyped objects. `None` costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Hooks {
    pub defaults: Option<Defaults>,
    /// Prepares and validates a new object, after admission.
    pub create: Option<Create>,
    /// Prepares and validates `new` against `old`, after admission.
    pub update: Option<Update>,
    pub warnings: Option<Warnings>,
}

impl Hooks {
    pub const NONE: Self = Self { defaults: None, create: None, update: None, warnings: None };

    /// For a kind with a status and nothing else that is special.
    pub const STATUS_ONLY: Self =
        Self { defaults: None, create: Some(create_status_only), update: Some(update_status_only), warnings: None };

    /// The hooks that `R` says it has.
    pub const fn of<R: Rules>() -> Self {
        let base = match R::STATUS {
            StatusRule::None => Self::NONE,
            StatusRule::Cleared | StatusRule::KeptOnCreate => Self::STATUS_ONLY,
        };
        Self {
            defaults: if R::DEFAULTS { Some(defaults::<R>) } else { None },
            create: if R::CHECKS { Some(create::<R>) } else { base.create },
            update: if R::CHECKS { Some(update::<R>) } else { base.update },
            warnings: if R::WARNINGS { Some(warnings::<R>) } else { None },
        }
    }
}

fn create_status_only(object: &mut Value) -> Decoded<Errors> {
    status::create(object, StatusRule::Cleared);
    Ok(Errors::new())
}

fn update_status_only(new: &mut Value, old: &Value, subresource: &str) -> Decoded<Errors> {
    status::update(new, old, subresource, StatusRule::Cleared);
    Ok(Errors::new())
}

fn typed<R: Rules>(object: &Value) -> Decoded<R::Object> {
    // by reference: no copy of the tree, only of its strings
    R::Object::deserialize(object)
}

/// As [`typed`], without the status: it was checked when it was written, and Go's zero times in it are nulls that
/// the types do not take.
fn typed_without_status<R: Rules>(object: &Value) -> Decoded<R::Object> {
    let fields = object.as_object().into_iter().flatten().filter(|(field, _)| *field != "status");
    R::Object::deserialize(MapDeserializer::new(fields.map(|(field, value)| (field.as_str(), value))))
}

fn defaults<R: Rules>(object: &mut Value) -> Decoded<()> {
    let fill = |object: &mut Value| {
        let mut it = typed::<R>(object)?;
        R::defaults(&mut it);
        *object = serde_json::to_value(it)?;
        Ok(())
    };
    let Err(error) = fill(object) else { return Ok(()) };
    // Go's zero times in a status are nulls that the types do not take: it stays as it is
    let Some(status) = object.as_object_mut().and_then(|fields| fields.remove("status")) else { return Err(error) };
    let filled = fill(object);
    if let Some(fields) = object.as_object_mut() {
        fields.insert("status".to_owned(), status);
    }
    filled
}

fn create<R: Rules>(object: &mut Value) -> Decoded<Errors> {
    status::create(object, R::STATUS);
    let mut it = typed::<R>(object)?;
    let mut errors = Errors::new();
    R::prepare_create(&mut it);
    R::validate(&it, &mut errors);
    if R::PREPARES {
        *object = serde_json::to_value(it)?;
    }
    Ok(errors)
}

fn update<R: Rules>(new: &mut Value, old: &Value, subresource: &str) -> Decoded<Errors> {
    status::update(new, old, subresource, R::STATUS);
    let mut errors = Errors::new();
    if subresource == "status" && !R::STATUS_CHECKS {
        return Ok(errors);
    }
    let decode = if R::STATUS_CHECKS { typed::<R> } else { typed_without_status::<R> };
    let (mut it, old) = (decode(new)?, decode(old)?);
    R::prepare_update(&mut it, &old, subresource);
    R::validate(&it, &mut errors);
    R::validate_update(&it, &old, subresource, &mut errors);
    if !R::PREPARES {
        return Ok(errors);
    }
    let status = if R::STATUS_CHECKS { None } else { new.as_object_mut().and_then(|fields| fields.remove("status")) };
    *new = serde_json::to_value(it)?;
    if let (Some(status), Some(fields)) = (status, new.as_object_mut()) {
        fields.insert("status".to_owned(), status);
    }
    Ok(errors)
}

fn warnings<R: Rules>(object: &Value) -> Decoded<Vec<String>> {
    Ok(R::warnings(&typed::<R>(object)?))
}
