//! Which instances a reader wants: the parameters that lists and discovery share.

use crate::{
    domain::{Fault, Instance, Status},
    doors::kit::Params,
};

/// What an instance must have. Where several tags are given it must have all of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    tags: Vec<(String, String)>,
    environment: Option<String>,
    region: Option<String>,
    zone: Option<String>,
}

impl Selection {
    pub fn of(params: &mut Params) -> Self {
        Self {
            tags: params.read_all("tag", tag),
            environment: params.text("environment"),
            region: params.text("region"),
            zone: params.text("zone"),
        }
    }

    pub fn takes(&self, instance: &Instance) -> bool {
        let spec = &*instance.spec;
        let is = |wanted: &Option<String>, value: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| value == Some(wanted))
        };
        is(&self.environment, Some(&spec.metadata.environment))
            && is(&self.region, spec.region.as_deref())
            && is(&self.zone, spec.zone.as_deref())
            && self.tags.iter().all(|(key, value)| spec.metadata.tags.get(key) == Some(value))
    }
}

/// `key=value`; a bare label is a tag with an empty value, `auth=`.
fn tag(text: &str) -> Result<(String, String), Fault> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Fault::new("must be key=value")),
    }
}

pub fn status(text: &str) -> Result<Status, Fault> {
    Status::parse(text)
        .ok_or_else(|| format!("must be one of {}", Status::ALL.map(Status::as_str).join(", ")).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::native::sample;

    #[test]
    fn an_instance_must_have_all_that_is_asked_for() {
        let instance = sample::instance(
            1,
            &serde_json::json!({
                "name": "orders", "type": "api", "host": "a", "port": 1, "zone": "z1",
                "metadata": {"region": "eu", "environment": "prod", "tags": {"team": "x=y", "auth": ""}},
            }),
        );
        for (query, taken) in [
            ("", true),
            ("environment=prod&region=eu&zone=z1&tag=team=x=y&tag=auth=", true),
            ("environment=Prod", false),
            ("region=us", false),
            ("zone=", false),
            ("tag=team=x", false),
            ("tag=auth=&tag=other=", false),
        ] {
            let mut params = Params::parse(query).unwrap();
            let selection = Selection::of(&mut params);
            params.finish().unwrap();
            assert_eq!(selection.takes(&instance), taken, "{query}");
        }
    }

    #[test]
    fn a_malformed_tag_or_status_is_refused() {
        assert!(tag("auth").is_err());
        assert!(tag("=x").is_err());
        assert!(tag("").is_err());
        assert!(status("Healthy").is_err());
        assert_eq!(status("healthy"), Ok(Status::Healthy));
    }
}
