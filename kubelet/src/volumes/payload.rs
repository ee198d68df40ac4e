//! The files that configMap, secret, downwardAPI and projected volumes show.
//!
//! Must not know: where they are written.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, SecurityContext, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::References;
use super::atomic::{File, Files};
use super::token::Tokens;
use crate::objects::Objects;
use crate::plan::environment::{ObjectKind, Sources, field_value, resource_value};
use crate::plan::pod;
use crate::references::Facts;

const DEFAULT_MODE: i32 = 0o644;

pub struct Context<'a> {
    pub pod: &'a Pod,
    pub facts: &'a Facts,
    pub objects: &'a Objects,
    pub tokens: &'a Tokens,
}

type Made = Result<(Files, Option<Duration>), String>;

/// One object to show: what is asked of it.
struct Show<'a> {
    kind: ObjectKind,
    name: &'a str,
    items: &'a [KeyToPath],
    optional: bool,
    mode: i32,
}

impl Context<'_> {
    /// The volume's files, and when they have to be made again.
    pub async fn files(&self, volume: &Volume) -> Made {
        let mut files = Files::new();
        if let Some(source) = &volume.config_map {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let items = source.items.as_deref().unwrap_or_default();
            let show = Show {
                kind: ObjectKind::ConfigMap,
                name: &source.name,
                items,
                optional: source.optional == Some(true),
                mode,
            };
            self.object(show, &mut files).await?;
        } else if let Some(source) = &volume.secret {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let (items, name) =
                (source.items.as_deref().unwrap_or_default(), source.secret_name.as_deref().unwrap_or_default());
            let show = Show { kind: ObjectKind::Secret, name, items, optional: source.optional == Some(true), mode };
            self.object(show, &mut files).await?;
        } else if let Some(source) = &volume.downward_api {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            self.downward(source.items.as_deref().unwrap_or_default(), mode, &mut files)?;
        } else if let Some(source) = &volume.projected {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let mut refresh = None;
            for one in source.sources.as_deref().unwrap_or_default() {
                refresh = refresh.into_iter().chain(self.projection(one, mode, &mut files).await?).min();
            }
            return Ok((files, refresh));
        }
        Ok((files, None))
    }

    async fn projection(
        &self,
        source: &VolumeProjection,
        mode: i32,
        files: &mut Files,
    ) -> Result<Option<Duration>, String> {
        if let Some(source) = &source.config_map {
            let items = source.items.as_deref().unwrap_or_default();
            let show = Show {
                kind: ObjectKind::ConfigMap,
                name: &source.name,
                items,
                optional: source.optional == Some(true),
                mode,
            };
            self.object(show, files).await?;
        } else if let Some(source) = &source.secret {
            let items = source.items.as_deref().unwrap_or_default();
            let show = Show {
                kind: ObjectKind::Secret,
                name: &source.name,
                items,
                optional: source.optional == Some(true),
                mode,
            };
            self.object(show, files).await?;
        } else if let Some(source) = &source.downward_api {
            self.downward(source.items.as_deref().unwrap_or_default(), mode, files)?;
        } else if let Some(source) = &source.service_account_token {
            return self.token(source, mode, files).await.map(Some);
        } else {
            return Err("this kind of projected source is not supported by this kubelet".into());
        }
        Ok(None)
    }

    async fn object(&self, show: Show<'_>, files: &mut Files) -> Result<(), String> {
        let namespace = pod::namespace(self.pod);
        let Some(data) = self.objects.get(show.kind, namespace, show.name).await? else {
            return if show.optional {
                Ok(())
            } else {
                Err(format!("{} \"{}\" not found", singular(show.kind), show.name))
            };
        };
        if show.items.is_empty() {
            files.extend(data.into_iter().map(|(key, value)| (key, file(value, show.mode))));
            return Ok(());
        }
        for item in show.items {
            match data.get(&item.key) {
                Some(value) => {
                    drop(files.insert(item.path.clone(), file(value.clone(), item.mode.unwrap_or(show.mode))))
                }
                None if show.optional => {}
                None => return Err(format!("references non-existent {} key: {}", singular(show.kind), item.key)),
            }
        }
        Ok(())
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: i32, files: &mut Files) -> Result<(), String> {
        let nothing = |_, _: &str| None;
        let sources = Sources {
            pod: self.pod,
            object: &nothing,
            services: &[],
            pod_ips: &self.facts.pod_ips,
            host_ips: &self.facts.host_ips,
            allocatable: self.facts.allocatable,
        };
        for item in items {
            let text = if let Some(field) = &item.field_ref {
                field_value(field, &sources)?
            } else if let Some(resource) = &item.resource_field_ref {
                let name = resource.container_name.clone().unwrap_or_default();
                let spec = self.pod.spec.as_ref().ok_or("the pod has no spec")?;
                let (_, container) = pod::find_container(spec, &name).ok_or(format!("container {name} not found"))?;
                resource_value(resource, &container, &sources)?
            } else {
                continue;
            };
            files.insert(item.path.clone(), file(text.into_bytes(), item.mode.unwrap_or(mode)));
        }
        Ok(())
    }

    async fn token(
        &self,
        source: &ServiceAccountTokenProjection,
        mode: i32,
        files: &mut Files,
    ) -> Result<Duration, String> {
        let (token, refresh) = self.tokens.get(self.pod, source).await?;
        let fs_group =
            self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()).and_then(|context| context.fs_group);
        // without a group, a process that is not root reads its token only when it owns the file
        let (owner, mode) = match (fs_group, common_user(self.pod)) {
            (None, Some(uid)) => (Some(uid), 0o600),
            (Some(_), _) => (None, 0o600),
            (None, None) => (None, mode),
        };
        files.insert(source.path.clone(), File { data: token.into_bytes(), mode: mode as u32, owner });
        Ok(refresh)
    }
}

fn file(data: Vec<u8>, mode: i32) -> File {
    File { data, mode: u32::try_from(mode).unwrap_or(0o644) & 0o777, owner: None }
}

fn singular(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::ConfigMap => "configmap",
        ObjectKind::Secret => "secret",
    }
}

/// The user that every container of the pod runs as, when the spec says so of all.
fn common_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let outer = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let own = |context: &Option<SecurityContext>| context.as_ref().and_then(|context| context.run_as_user).or(outer);
    let mut users = spec.containers.iter().chain(pod::init_containers(spec)).map(|one| own(&one.security_context));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

/// The objects a volume shows.
pub fn references(volume: &Volume) -> References {
    let mut all = References::new();
    all.extend(volume.config_map.iter().map(|source| (ObjectKind::ConfigMap, source.name.clone())));
    all.extend(volume.secret.iter().filter_map(|source| Some((ObjectKind::Secret, source.secret_name.clone()?))));
    for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        all.extend(source.config_map.iter().map(|source| (ObjectKind::ConfigMap, source.name.clone())));
        all.extend(source.secret.iter().map(|source| (ObjectKind::Secret, source.name.clone())));
    }
    all
}
