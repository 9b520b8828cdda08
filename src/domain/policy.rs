//! Who may do what: rights over kinds of things, by the beginning of their names.
//!
//! The longest prefix that a name begins with decides; of two rules for one prefix `deny` wins, and what no rule is
//! about is refused.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    fault::{Fault, text_within},
    ids::ServiceName,
};

/// The kinds of things that rights are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    Service,
    Config,
    Lock,
    Audit,
    /// rollcall itself.
    Operator,
    Token,
}

impl Resource {
    pub const ALL: [Self; 6] =
        [Self::Service, Self::Config, Self::Lock, Self::Audit, Self::Operator, Self::Token];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Config => "config",
            Self::Lock => "lock",
            Self::Audit => "audit",
            Self::Operator => "operator",
            Self::Token => "token",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.as_str() == text)
    }
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Read,
    Write,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What a rule gives. To write includes to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Read,
    Write,
    Deny,
}

impl Access {
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Deny];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Deny => "deny",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|access| access.as_str() == text)
    }

    fn allows(self, action: Action) -> bool {
        match self {
            Self::Write => true,
            Self::Read => action == Action::Read,
            Self::Deny => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub resource: Resource,
    /// What names begin with; empty for all.
    pub prefix: Arc<str>,
    pub access: Access,
}

impl Rule {
    pub const LONGEST_PREFIX: usize = 255;

    /// A prefix as it is compared: names of services have no capitals.
    pub fn prefix(resource: Resource, text: &str) -> Result<Arc<str>, Fault> {
        let text = text_within(text, 0, Self::LONGEST_PREFIX)?;
        Ok(match resource {
            Resource::Service | Resource::Config | Resource::Audit => text.to_ascii_lowercase().into(),
            Resource::Lock | Resource::Operator | Resource::Token => text.into(),
        })
    }
}

/// The rules of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    pub rules: Arc<[Rule]>,
}

impl Policies {
    pub const MOST_RULES: usize = 100;

    fn allow(&self, resource: Resource, action: Action, name: &str) -> bool {
        let about = |rule: &&Rule| rule.resource == resource && name.starts_with(&*rule.prefix);
        let Some(longest) = self.rules.iter().filter(about).map(|rule| rule.prefix.len()).max() else {
            return false;
        };
        let mut deciding = self.rules.iter().filter(about).filter(|rule| rule.prefix.len() == longest);
        let denied = deciding.clone().any(|rule| rule.access == Access::Deny);
        !denied && deciding.any(|rule| rule.access.allows(action))
    }

    /// Whether the answer is yes for every name that begins with `prefix`.
    fn allow_all(&self, resource: Resource, action: Action, prefix: &str) -> bool {
        let narrower = |rule: &&Rule| rule.resource == resource && rule.prefix.starts_with(prefix);
        self.allow(resource, action, prefix)
            && self.rules.iter().filter(narrower).all(|rule| self.allow(resource, action, &rule.prefix))
    }
}

/// What somebody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    All,
    /// A service: it changes what is its own and reads everything.
    Own(ServiceName),
    Given(Policies),
}

impl Rights {
    pub fn allow(&self, resource: Resource, action: Action, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Own(_) if action == Action::Read => true,
            Self::Own(own) => {
                matches!(resource, Resource::Service | Resource::Config | Resource::Lock)
                    && own.as_str() == name
            }
            Self::Given(policies) => policies.allow(resource, action, name),
        }
    }

    /// Whether the answer is the same yes for every name.
    pub fn allow_all(&self, resource: Resource, action: Action) -> bool {
        match self {
            Self::All => true,
            Self::Own(_) => action == Action::Read,
            Self::Given(policies) => policies.allow_all(resource, action, ""),
        }
    }

    /// Whether all that `policies` give is given here too: nobody hands on what he does not have.
    pub fn cover(&self, policies: &Policies) -> bool {
        let Self::Given(own) = self else { return *self == Self::All };
        policies.rules.iter().all(|rule| match rule.access {
            Access::Deny => true,
            Access::Read => own.allow_all(rule.resource, Action::Read, &rule.prefix),
            Access::Write => own.allow_all(rule.resource, Action::Write, &rule.prefix),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Access::{Deny, Read, Write};

    fn policies(rules: &[(Resource, &str, Access)]) -> Policies {
        let rule = |&(resource, prefix, access): &(Resource, &str, Access)| Rule {
            resource,
            prefix: prefix.into(),
            access,
        };
        Policies { rules: rules.iter().map(rule).collect() }
    }

    #[test]
    fn the_longest_prefix_decides_and_deny_wins_among_equals() {
        let service = Resource::Service;
        let given = policies(&[
            (service, "", Read),
            (service, "orders", Write),
            (service, "orders-secret", Deny),
            (service, "orders-secret-not", Read),
            (service, "both", Write),
            (service, "both", Deny),
            (service, "two", Read),
            (service, "two", Write),
            (Resource::Config, "a", Write),
        ]);
        for (resource, name, read, write) in [
            (service, "anything", true, false),
            (service, "", true, false),
            (service, "orders", true, true),
            (service, "orders-7", true, true),
            (service, "order", true, false),
            (service, "orders-secret", false, false),
            (service, "orders-secret-7", false, false),
            (service, "orders-secret-not", true, false),
            (service, "both", false, false),
            (service, "two", true, true),
            (Resource::Config, "a", true, true),
            (Resource::Config, "b", false, false),
            (Resource::Lock, "a", false, false),
            (Resource::Token, "", false, false),
        ] {
            let rights = Rights::Given(given.clone());
            assert_eq!(rights.allow(resource, Action::Read, name), read, "read {resource:?} {name}");
            assert_eq!(rights.allow(resource, Action::Write, name), write, "write {resource:?} {name}");
        }
    }

    #[test]
    fn a_service_changes_what_is_its_own_and_reads_all() {
        let own = Rights::Own(ServiceName::parse("orders").unwrap());
        for resource in Resource::ALL {
            assert!(own.allow(resource, Action::Read, "billing"), "{resource:?}");
            assert!(!own.allow(resource, Action::Write, "billing"), "{resource:?}");
            assert!(!own.allow(resource, Action::Write, "orders-2"), "{resource:?}");
            let owned = matches!(resource, Resource::Service | Resource::Config | Resource::Lock);
            assert_eq!(own.allow(resource, Action::Write, "orders"), owned, "{resource:?}");
            assert!(own.allow_all(resource, Action::Read) && !own.allow_all(resource, Action::Write));
            assert!(
                Rights::All.allow(resource, Action::Write, "")
                    && Rights::All.allow_all(resource, Action::Write)
            );
        }
        assert!(!own.cover(&policies(&[(Resource::Service, "orders", Write)])));
    }

    #[test]
    fn nobody_hands_on_what_he_does_not_have() {
        let service = Resource::Service;
        let own =
            Rights::Given(policies(&[(service, "a", Write), (service, "a-b", Read), (service, "a-c", Deny)]));
        for (rules, covered) in [
            (&[][..], true),
            (&[(service, "a-d", Write)], true),
            (&[(service, "a-b", Read)], true),
            (&[(service, "a-bc", Read)], true),
            (&[(service, "z", Deny)], true),
            (&[(service, "a", Write)], false),
            (&[(service, "a", Read)], false),
            (&[(service, "a-b", Write)], false),
            (&[(service, "a-c", Read)], false),
            (&[(service, "", Read)], false),
            (&[(Resource::Config, "a", Read)], false),
        ] {
            assert_eq!(own.cover(&policies(rules)), covered, "{rules:?}");
        }
        let everything: Vec<_> = Resource::ALL.into_iter().map(|resource| (resource, "", Write)).collect();
        assert!(Rights::All.cover(&policies(&everything)));
    }

    #[test]
    fn prefixes_are_compared_as_names_are_stored() {
        assert_eq!(&*Rule::prefix(Resource::Service, "Orders").unwrap(), "orders");
        assert_eq!(&*Rule::prefix(Resource::Lock, "Orders").unwrap(), "Orders");
        assert!(Rule::prefix(Resource::Lock, &"x".repeat(256)).is_err());
        assert!(Rule::prefix(Resource::Lock, "\0").is_err());
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for resource in Resource::ALL {
            assert_eq!(Resource::parse(resource.as_str()), Some(resource));
            assert_eq!(serde_json::to_value(resource).unwrap(), resource.as_str());
        }
        for access in Access::ALL {
            assert_eq!(Access::parse(access.as_str()), Some(access));
            assert_eq!(serde_json::to_value(access).unwrap(), access.as_str());
        }
        assert_eq!(Resource::parse("Service"), None);
        assert_eq!(Access::parse("all"), None);
        assert_eq!((Action::Read.as_str(), Action::Write.as_str()), ("read", "write"));
    }

    fn some_policies() -> impl Strategy<Value = Policies> {
        let access = prop_oneof![Just(Read), Just(Write), Just(Deny)];
        let rule = ("[ab]{0,3}", access).prop_map(|(prefix, access)| Rule {
            resource: Resource::Service,
            prefix: prefix.into(),
            access,
        });
        proptest::collection::vec(rule, 0..6).prop_map(|rules| Policies { rules: rules.into() })
    }

    proptest! {
        #[test]
        fn what_is_covered_gives_nothing_new(own in some_policies(), other in some_policies(), name in "[ab]{0,5}") {
            if Rights::Given(own.clone()).cover(&other) {
                for action in [Action::Read, Action::Write] {
                    let (has, gets) =
                        (own.allow(Resource::Service, action, &name), other.allow(Resource::Service, action, &name));
                    prop_assert!(has || !gets, "{action:?} {name}");
                }
            }
        }

        #[test]
        fn who_may_write_may_read(policies in some_policies(), name in "[ab]{0,5}") {
            let may = |action| policies.allow(Resource::Service, action, &name);
            prop_assert!(may(Action::Read) || !may(Action::Write));
        }

        #[test]
        fn all_means_every_name(policies in some_policies(), name in "[ab]{0,5}") {
            for action in [Action::Read, Action::Write] {
                let rights = Rights::Given(policies.clone());
                prop_assert!(rights.allow(Resource::Service, action, &name) || !rights.allow_all(Resource::Service, action));
            }
        }
    }
}
