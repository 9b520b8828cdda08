//! Tokens: made, listed, revoked.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    answer::{Freshness, json, read_at, written_at},
    documented::{
        BodyProblems, FreshnessParams, IdempotencyParam, KeyReused, NoSuchToken, ReadProblems, WriteProblems,
    },
    path::Segment,
};
use crate::{
    app::{App, NewToken},
    domain::{
        Access, Action, Fault, Policies, Refusal, Resource, Rule, Token, TokenId, TokenName, Violation,
        duration,
    },
    doors::kit::{CallerOf, Fields, JSON, Params, Problem, Sent, Who, body::ONE, fields::parsed, time},
};

const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// Ten years: longer is for ever.
const LONGEST_TTL: Duration = Duration::from_hours(3660 * 24);

/// Makes a token
///
/// Its secret is told this once and kept nowhere. A token cannot allow more than whoever makes it may do.
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "tokens",
    params(IdempotencyParam),
    request_body(content = TokenBody, content_type = "application/json"),
    responses(
        (status = 201, description = "The token, with its secret", body = NewTokenReply, headers(
            ("X-Rollcall-Revision" = i64, description = "From which revision on it is known"),
            ("Cache-Control" = String, description = "`no-store`"),
        )),
        WriteProblems, BodyProblems, KeyReused,
    ),
)]
pub async fn create_token(
    State(app): State<App>,
    CallerOf(mut caller): CallerOf,
    sent: Sent,
) -> Result<Response, Problem> {
    let body = sent.json(&mut caller, JSON, ONE).await?;
    let new = read_token(&body).map_err(Problem::invalid)?;
    let written = app.create_token(&caller, new).await?;
    let (token, secret) = &written.value;
    let reply = NewTokenReply {
        token: TokenReply::of(token),
        secret: secret.as_ref().map(crate::app::Secret::reveal),
    };
    let mut response = json(StatusCode::CREATED, &reply)?;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(written_at(written.revision, response))
}

fn read_token(body: &Value) -> Result<NewToken, Vec<Violation>> {
    let mut violations = Vec::new();
    let read = Fields::of(body, "", &mut violations).and_then(|mut fields| {
        let name = fields.required("name", parsed(TokenName::parse));
        if matches!(body.get("policies"), None | Some(Value::Null)) {
            fields.refuse("policies", "is required");
        }
        let rules = fields.nested("policies", |policies| {
            if matches!(body.pointer("/policies/rules"), None | Some(Value::Null)) {
                policies.refuse("rules", "is required");
            }
            policies.list("rules", Policies::MOST_RULES, Ok)
        });
        let ttl = fields.optional("ttl", parsed(ttl));
        Some((name?, rules?, ttl))
    });
    let mut rules = Vec::new();
    if let Some((_, given, _)) = &read {
        for (index, rule) in given.iter().enumerate() {
            rules.extend(read_rule(rule, &format!("policies.rules[{index}]"), &mut violations));
        }
    }
    match read {
        Some((name, _, ttl)) if violations.is_empty() => {
            Ok(NewToken { name, policies: Policies { rules: rules.into() }, ttl })
        }
        _ => Err(violations),
    }
}

fn read_rule(rule: &Value, place: &str, violations: &mut Vec<Violation>) -> Option<Rule> {
    let mut fields = Fields::of(rule, place, violations)?;
    let resource = fields.required(
        "resource",
        parsed(|text| {
            let help = Fault::new("must be service, config, lock, audit, operator or token");
            Resource::parse(text).ok_or(help)
        }),
    );
    let prefix =
        fields.required("prefix", parsed(|text| Rule::prefix(resource.unwrap_or(Resource::Operator), text)));
    let access = fields.required(
        "access",
        parsed(|text| Access::parse(text).ok_or(Fault::new("must be read, write or deny"))),
    );
    Some(Rule { resource: resource?, prefix: prefix?, access: access? })
}

fn ttl(text: &str) -> Result<Duration, Fault> {
    let ttl = duration::parse(text)?;
    if (SHORTEST_TTL..=LONGEST_TTL).contains(&ttl) {
        return Ok(ttl);
    }
    Err(Fault::new("must be from 1s to 3660d; left out, the token holds until it is revoked"))
}

/// Lists tokens
///
/// Without their secrets, which nobody has.
#[utoipa::path(
    get, path = "/api/v1/tokens", tag = "tokens",
    params(FreshnessParams),
    responses(
        (status = 200, description = "Those that the caller may know of, the oldest first", body = Vec<TokenReply>,
         headers(
            ("X-Rollcall-Revision" = i64, description = "The revision that the answer rests on"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        ReadProblems,
    ),
)]
pub async fn list_tokens(State(app): State<App>, who: Who, mut params: Params) -> Result<Response, Problem> {
    let freshness = Freshness::of(&mut params)?;
    params.finish()?;
    let snapshot = freshness.snapshot(&app).await?;
    let known = |token: &&Arc<Token>| who.may(Resource::Token, Action::Read, token.name.as_str());
    let tokens: Vec<_> = snapshot.tokens().iter().filter(known).map(|token| TokenReply::of(token)).collect();
    Ok(read_at(&app, snapshot.revision(), json(StatusCode::OK, &tokens)))
}

/// Revokes a token
///
/// Every replica refuses it within a second.
#[utoipa::path(
    delete, path = "/api/v1/tokens/{id}", tag = "tokens",
    params(("id" = Uuid, Path, description = "The token's id"), IdempotencyParam),
    responses(
        (status = 204, description = "It holds no longer", headers(
            ("X-Rollcall-Revision" = i64, description = "From which revision on it is refused"),
        )),
        WriteProblems, NoSuchToken, KeyReused,
    ),
)]
pub async fn revoke_token(
    State(app): State<App>,
    Segment(id): Segment,
    CallerOf(caller): CallerOf,
) -> Result<Response, Problem> {
    let id = Uuid::try_parse(&id).map_err(|_| Refusal::NoSuchToken)?;
    let written = app.revoke_token(&caller, TokenId(id)).await?;
    Ok(written_at(written.revision, StatusCode::NO_CONTENT.into_response()))
}

/// A token to be made.
#[derive(ToSchema)]
#[schema(as = NewToken, example = json!({
    "name": "orders of the staging environment",
    "policies": {"rules": [{"resource": "service", "prefix": "orders", "access": "write"}]},
    "ttl": "720h",
}))]
#[expect(dead_code, reason = "describes the body to OpenAPI; it is read field by field")]
pub struct TokenBody {
    /// What the audit calls it.
    #[schema(min_length = 1, max_length = 100, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$")]
    name: String,
    policies: PoliciesBody,
    /// How long it holds, from `1s` to `3660d`. Left out: until it is revoked.
    #[schema(
        pattern = "^([0-9]{1,9}d)?([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?([0-9]{1,9}ms)?$",
        min_length = 2,
        example = "12h"
    )]
    ttl: Option<String>,
}

/// What it allows. The rule with the longest prefix decides; at equal length `deny` wins; what no rule is about is
/// refused.
#[derive(ToSchema)]
#[schema(as = Policies)]
#[expect(dead_code, reason = "describes the body to OpenAPI; it is read field by field")]
pub struct PoliciesBody {
    #[schema(max_items = 100)]
    rules: Vec<RuleBody>,
}

#[derive(ToSchema)]
#[schema(as = PolicyRule)]
#[expect(dead_code, reason = "describes the body to OpenAPI; it is read field by field")]
pub struct RuleBody {
    #[schema(pattern = "^(service|config|lock|audit|operator|token)$", example = "service")]
    resource: String,
    /// What the names begin with; empty for all. For `audit` the names are those of services.
    #[schema(max_length = 255, pattern = "^[^\\u0000]*$", example = "orders")]
    prefix: String,
    /// `write` includes `read`.
    #[schema(pattern = "^(read|write|deny)$", example = "write")]
    access: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenReply<'a> {
    id: Uuid,
    name: &'a str,
    #[schema(value_type = PoliciesBody)]
    policies: &'a Policies,
    #[serde(serialize_with = "time::serialize")]
    created_at: DateTime<Utc>,
    /// null where it holds until it is revoked.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schema(required = true)]
    expires_at: Option<DateTime<Utc>>,
    /// Who made it.
    created_by: &'a str,
}

impl<'a> TokenReply<'a> {
    fn of(token: &'a Token) -> Self {
        Self {
            id: token.id.0,
            name: token.name.as_str(),
            policies: &token.policies,
            created_at: token.created_at,
            expires_at: token.expires_at,
            created_by: &token.actor,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = TokenWithSecret)]
pub struct NewTokenReply<'a> {
    #[serde(flatten)]
    token: TokenReply<'a>,
    /// What its bearer shows: `Authorization: Bearer …`. null where the request is the repetition of an earlier one
    /// under the same Idempotency-Key.
    #[schema(required = true)]
    secret: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_of_a_token_is_told_with_its_place() {
        let rule = json!({"resource": "service", "prefix": "Orders", "access": "write"});
        let new = read_token(&json!({"name": "n", "policies": {"rules": [rule]}, "ttl": "1h"})).unwrap();
        assert_eq!(new.ttl, Some(Duration::from_hours(1)));
        assert_eq!(&*new.policies.rules.first().unwrap().prefix, "orders");
        assert!(read_token(&json!({"name": "n", "policies": {"rules": []}})).unwrap().ttl.is_none());
        for (body, fields) in [
            (json!([]), &["body"][..]),
            (json!({}), &["name", "policies"]),
            (json!({"name": "", "policies": []}), &["name", "policies"]),
            (json!({"name": "n", "policies": {}}), &["policies.rules"]),
            (json!({"name": "n", "policies": {"rules": {}}}), &["policies.rules"]),
            (json!({"name": "n", "policies": {"rules": []}, "ttl": 60}), &["ttl"]),
            (json!({"name": "n", "policies": {"rules": []}, "ttl": "999ms"}), &["ttl"]),
            (json!({"name": "n", "policies": {"rules": []}, "ttl": "3661d"}), &["ttl"]),
            (
                json!({"name": "n", "policies": {"rules": [rule, {}, 7, {"resource": "all", "prefix": "", "access": "x"}]}}),
                &[
                    "policies.rules[1].resource",
                    "policies.rules[1].prefix",
                    "policies.rules[1].access",
                    "policies.rules[2]",
                    "policies.rules[3].resource",
                    "policies.rules[3].access",
                ],
            ),
            (json!({"name": "n", "policies": {"rules": vec![rule.clone(); 101]}}), &["policies.rules"]),
        ] {
            let violations = read_token(&body).unwrap_err();
            let told: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
            assert_eq!(told, fields, "{body}");
        }
    }
}
