//! A network configuration list: read, its version agreed on, and what each plugin of it gets on stdin.
//!
//! Must not know: files, and how plugins are run.

use serde_json::{Map, Value, json};

use super::error::CallError;
use super::pod::Capabilities;
use crate::request::VERSIONS;

/// A conflist (or a single plugin's configuration, which is a list of one), checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct List {
    pub name: String,
    /// The newest version that the list names and that is spoken here.
    pub version: &'static str,
    pub disable_check: bool,
    pub disable_gc: bool,
    /// Whether plugins may also come from a folder that is named like the network.
    pub only_inlined: bool,
    pub plugins: Vec<Plugin>,
}

/// One plugin of a list: its configuration as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plugin {
    pub kind: String,
    pub conf: Map<String, Value>,
}

impl List {
    /// A whole list, as in a `.conflist`.
    pub fn parse(text: &str) -> Result<Self, CallError> {
        let document = object(text)?;
        let plugins = document.get("plugins").and_then(Value::as_array).ok_or_else(|| broken("it has no plugins"))?;
        let mut list = Self::head(&document)?;
        list.plugins = plugins.iter().map(|it| Plugin::read(it.clone())).collect::<Result<_, _>>()?;
        Ok(list)
    }

    /// A single plugin's configuration, as in a `.conf`.
    pub fn parse_single(text: &str) -> Result<Self, CallError> {
        let document = object(text)?;
        let mut list = Self::head(&document)?;
        list.plugins = vec![Plugin::read(Value::Object(document))?];
        Ok(list)
    }

    fn head(document: &Map<String, Value>) -> Result<Self, CallError> {
        let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = text("name");
        // It names files; the rule is CNI's.
        let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(legal) {
            return Err(broken(format!("{name:?} is no network name")));
        }
        Ok(Self {
            name: name.into(),
            version: agreed(document)?,
            disable_check: is_true(document.get("disableCheck")),
            disable_gc: is_true(document.get("disableGC")),
            only_inlined: is_true(document.get("loadOnlyInlinedPlugins")),
            plugins: Vec::new(),
        })
    }

    /// Does the specification that was agreed on have what came with `version`?
    pub fn speaks(&self, version: &str) -> bool {
        let place = |it| VERSIONS.iter().position(|known| *known == it);
        place(self.version) >= place(version)
    }

    /// The list as one document, from which [`List::parse`] makes the same again.
    pub fn document(&self) -> Value {
        json!({
            "cniVersion": self.version,
            "name": self.name,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "loadOnlyInlinedPlugins": self.only_inlined,
            "plugins": self.plugins.iter().map(|plugin| &plugin.conf).collect::<Vec<_>>(),
        })
    }

    /// What `plugin` gets on stdin.
    pub fn stdin(&self, plugin: &Plugin, capabilities: &Capabilities, previous: Option<&Value>) -> Value {
        let mut conf = plugin.conf.clone();
        conf.insert("cniVersion".into(), json!(self.version));
        conf.insert("name".into(), json!(self.name));
        let wanted = |name: &str| is_true(plugin.conf.get("capabilities").and_then(|it| it.get(name)));
        let args: Map<_, _> = capabilities.by_name().into_iter().filter(|(name, _)| wanted(name)).collect();
        if !args.is_empty() {
            conf.insert("runtimeConfig".into(), Value::Object(args));
        }
        if let Some(previous) = previous {
            conf.insert("prevResult".into(), previous.clone());
        }
        Value::Object(conf)
    }

    /// What `plugin` gets for GC: `live` are the container ids and interfaces that still exist.
    pub fn gc_stdin(&self, plugin: &Plugin, live: &[(String, String)]) -> Value {
        let live: Vec<_> = live.iter().map(|(id, name)| json!({ "containerID": id, "ifname": name })).collect();
        let mut conf = self.stdin(plugin, &Capabilities::default(), None);
        conf["cni.dev/valid-attachments"] = json!(live);
        // The name by which some plugins look for it.
        conf["cni.dev/attachments"] = json!(live);
        conf
    }
}

impl Plugin {
    pub fn read(value: Value) -> Result<Self, CallError> {
        let Value::Object(conf) = value else { return Err(broken("a plugin is no object")) };
        let kind = conf.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        // It names a program in the plugins' folders, and nothing else.
        if kind.is_empty() || kind.contains('/') || kind.starts_with('.') {
            return Err(broken(format!("{kind:?} is no plugin type")));
        }
        Ok(Self { kind, conf })
    }
}

fn object(text: &str) -> Result<Map<String, Value>, CallError> {
    serde_json::from_str(text).map_err(|error| broken(error.to_string()))
}

fn broken(why: impl Into<String>) -> CallError {
    CallError::Configuration(why.into())
}

fn is_true(value: Option<&Value>) -> bool {
    value.is_some_and(|it| it == &json!(true) || it == &json!("true"))
}

/// The newest version both sides know. A list that names none is of the first specification's time: the oldest here.
fn agreed(document: &Map<String, Value>) -> Result<&'static str, CallError> {
    let several = document.get("cniVersions").and_then(Value::as_array).into_iter().flatten();
    let named: Vec<&str> = document.get("cniVersion").into_iter().chain(several).filter_map(Value::as_str).collect();
    if named.is_empty() {
        return Ok(VERSIONS[0]);
    }
    // 0.3.0 differs from 0.3.1 by an erratum.
    let same = |it: &str, known: &str| it == known || (it == "0.3.0" && known == "0.3.1");
    let newest = VERSIONS.into_iter().rev().find(|known| named.iter().any(|it| same(it, known)));
    newest.ok_or_else(|| broken(format!("CNI version {} is not spoken here", named.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::super::pod::PortMapping;
    use super::*;

    const CHAIN: &str = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[
        {"type":"bridge","ipam":{"type":"host-local"}},
        {"type":"portmap","capabilities":{"portMappings":true,"mac":false}}]}"#;

    #[test]
    fn a_plugin_gets_its_configuration_the_capabilities_it_wants_and_the_result_so_far() {
        let list = List::parse(CHAIN).unwrap();
        let mapping = PortMapping { host_port: 80, container_port: 8080, ..PortMapping::default() };
        let capabilities =
            Capabilities { port_mappings: vec![mapping], mac: Some("m".into()), ..Capabilities::default() };
        let first = list.stdin(&list.plugins[0], &capabilities, None);
        let expected =
            json!({ "cniVersion": "1.0.0", "name": "pods", "type": "bridge", "ipam": { "type": "host-local" } });
        assert_eq!(first, expected);
        let second = list.stdin(&list.plugins[1], &capabilities, Some(&json!({ "ips": [] })));
        let ports = json!([{ "hostPort": 80, "containerPort": 8080, "protocol": "tcp" }]);
        assert_eq!(second["runtimeConfig"], json!({ "portMappings": ports }));
        assert_eq!(second["prevResult"], json!({ "ips": [] }));
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        let of = |versions: &str| List::parse_single(&format!(r#"{{{versions}"name":"n","type":"t"}}"#));
        assert_eq!(of("").unwrap().version, "0.3.1");
        assert_eq!(of(r#""cniVersion":"0.3.0","#).unwrap().version, "0.3.1");
        assert_eq!(of(r#""cniVersion":"1.0.0","cniVersions":["1.0.0","1.1.0","9.0.0"],"#).unwrap().version, "1.1.0");
        let refused = of(r#""cniVersion":"2.0.0","#).unwrap_err().to_string();
        assert!(refused.contains("CNI version 2.0.0 is not spoken here"), "{refused}");
        assert!(of(r#""cniVersion":"0.4.0","#).unwrap().speaks("0.4.0"));
        assert!(!of(r#""cniVersion":"0.3.1","#).unwrap().speaks("0.4.0"));
    }

    #[test]
    fn names_that_would_leave_their_folder_are_refused() {
        for broken in [
            r#"{"name":"../x","type":"t"}"#,
            r#"{"name":"n","type":"../../bin/sh"}"#,
            r#"{"name":"n","type":""}"#,
            r#"{"name":"","type":"t"}"#,
            "[]",
            "{",
        ] {
            assert!(List::parse_single(broken).is_err(), "{broken}");
        }
        assert!(List::parse(r#"{"name":"n"}"#).is_err());
    }

    #[test]
    fn a_list_survives_being_kept() {
        let list = List::parse(CHAIN).unwrap();
        assert_eq!(List::parse(&list.document().to_string()).unwrap(), list);
    }
}
