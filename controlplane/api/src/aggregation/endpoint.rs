//! Where a Service's port leads: one of its ready endpoints, those of the Service's first family first.
//! Source: `ResolveEndpoint` of `k8s.io/apiserver/pkg/util/proxy`, which `--enable-aggregator-routing` chooses.
//!
//! Must not know: connections, chance.

use serde_json::Value;

/// Host and port behind `port` of `service`, whose EndpointSlices are `slices`: of as many as there are, the one that
/// `chance` falls on.
///
/// # Errors
/// Why there is none, in upstream's words.
pub fn resolve(service: &Value, slices: &[Value], port: u16, chance: u64) -> Result<(String, u16), String> {
    let (spec, name) = (&service["spec"], crate::object::name(service));
    if spec["type"] == "ExternalName" {
        return Ok((spec["externalName"].as_str().unwrap_or_default().to_owned(), port));
    }
    let mut ports = spec["ports"].as_array().into_iter().flatten();
    let found = ports.find(|it| it["port"].as_u64() == Some(port.into()));
    let found = found.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port = found["name"].as_str().unwrap_or_default();
    let preferred = &spec["ipFamilies"][0];
    let mut able = candidates(slices.iter().filter(|slice| slice["addressType"] == *preferred), port);
    if able.is_empty() {
        able = candidates(slices.iter(), port);
    }
    let at = usize::try_from(chance).unwrap_or_default().checked_rem(able.len());
    let chosen = at.and_then(|at| able.into_iter().nth(at));
    chosen.ok_or_else(|| format!("no endpoints available for service {name:?}"))
}

fn candidates<'a>(slices: impl Iterator<Item = &'a Value>, port: &str) -> Vec<(String, u16)> {
    let of_slice = |slice: &'a Value| {
        let number = port_number(slice, port);
        let endpoints = number.and(slice["endpoints"].as_array()).into_iter().flatten().filter(|it| is_ready(it));
        endpoints.filter_map(move |it| Some((it["addresses"][0].as_str()?.to_owned(), number?)))
    };
    slices.flat_map(of_slice).collect()
}

/// Unknown counts as ready.
pub(super) fn is_ready(endpoint: &Value) -> bool {
    endpoint["conditions"]["ready"].as_bool().unwrap_or(true)
}

/// The number of a slice's port of that name.
pub(super) fn port_number(slice: &Value, name: &str) -> Option<u16> {
    let mut ports = slice["ports"].as_array()?.iter();
    let found = ports.find(|port| port["name"].as_str().unwrap_or_default() == name)?;
    u16::try_from(found["port"].as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(family: &str, endpoints: Value) -> Value {
        json!({ "addressType": family, "endpoints": endpoints, "ports": [{ "name": "https", "port": 8443 }] })
    }

    fn service() -> Value {
        json!({
            "metadata": { "name": "s" },
            "spec": { "ipFamilies": ["IPv4"], "ports": [{ "name": "https", "port": 443 }] },
        })
    }

    #[test]
    fn ready_endpoints_of_the_first_family_are_chosen_from() {
        let slices = [
            slice("IPv6", json!([{ "addresses": ["fd00::1"] }])),
            slice("IPv4", json!([{ "addresses": ["192.0.2.1"], "conditions": { "ready": false } }])),
            slice("IPv4", json!([{ "addresses": ["192.0.2.2"] }, { "addresses": ["192.0.2.3"] }])),
        ];
        let chosen = |chance| resolve(&service(), &slices, 443, chance).map(|(host, _)| host);
        assert_eq!(chosen(0).unwrap(), "192.0.2.2");
        assert_eq!(chosen(3).unwrap(), "192.0.2.3");
        let only_six = resolve(&service(), &slices[..1], 443, 7);
        assert_eq!(only_six, Ok(("fd00::1".to_owned(), 8443)));
    }

    #[test]
    fn where_there_is_none_it_is_told() {
        let none = |slices: &[Value], port| resolve(&service(), slices, port, 0).unwrap_err();
        assert_eq!(none(&[], 443), "no endpoints available for service \"s\"");
        assert_eq!(none(&[], 80), "no service port 80 found for service \"s\"");
    }
}
