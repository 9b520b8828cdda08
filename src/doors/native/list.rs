//! GET /api/v1/services: all instances, or those that match, whole or in pages.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::{HeaderValue, StatusCode, header::LINK},
    response::Response,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use utoipa::IntoParams;

use super::{
    answer::{Freshness, json_bytes, read_at},
    documented::{FreshnessParams, ReadProblems},
    error::internal,
    page::{Cursor, Sort},
    path::asked_name,
    registration::service_type,
    schemas::{statuses, types, wanted_tags},
    selection::{Selection, status},
    wire::InstanceReply,
};
use crate::{
    app::{App, ServiceView, Snapshot},
    domain::{Action, Instance, Resource, ServiceType, Status},
    doors::kit::{Params, Problem, Who},
    telemetry::{Class, Refused},
};

/// After how many instances other requests get their turn.
const A_TURN: usize = 500;

/// Lists instances
///
/// Without `limit` all that match, by default in the order of their names. With it, a Link header leads to the
/// next page.
#[utoipa::path(
    get, path = "/api/v1/services", tag = "registry",
    params(ListParams, FreshnessParams),
    responses(
        (status = 200, description = "The instances", body = Vec<InstanceReply>, headers(
            ("Link" = String, description = "Where the next page is, as rel=\"next\""),
            ("X-Rollcall-Revision" = i64, description = "The revision that the answer rests on"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        ReadProblems,
    ),
)]
pub async fn list_instances(
    State(app): State<App>,
    who: Who,
    Extension(whole_lists): Extension<WholeLists>,
    mut params: Params,
) -> Result<Response, Problem> {
    let freshness = Freshness::of(&mut params)?;
    params.not_supported(&["version", "filter"])?;
    let filter = Filter::of(&mut params);
    let paging = Paging::of(&mut params);
    params.finish()?;

    let snapshot = freshness.snapshot(&app).await?;
    let _turn = whole_lists.turn(paging.limit).await.inspect_err(|_| {
        app.metrics().request_refused(Class::List, Refused::Overloaded);
    })?;
    let may = |service: &ServiceView| who.may(Resource::Service, Action::Read, service.name.as_str());
    let (page, last) = paging.page(&snapshot, &filter, may);
    let mut body = Vec::with_capacity(page.len().saturating_mul(700) + 2);
    body.push(b'[');
    for (index, instance) in page.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        if index % A_TURN == A_TURN - 1 {
            tokio::task::yield_now().await;
        }
        let shown = app.shown(Arc::clone(instance));
        serde_json::to_writer(&mut body, &InstanceReply::of(&shown)).map_err(internal)?;
    }
    body.push(b']');

    let mut response = json_bytes(StatusCode::OK, body);
    if let Some(cursor) = last {
        let next = format!("</api/v1/services?{}>; rel=\"next\"", params.with("cursor", &cursor.write()));
        response.headers_mut().insert(LINK, HeaderValue::try_from(next).map_err(internal)?);
    }
    Ok(read_at(&app, snapshot.revision(), response))
}

/// Lists without a limit may be of everything there is: they are made one after the other, a few at a time, so that
/// they take no more than a few times their memory.
#[derive(Clone, Debug)]
pub struct WholeLists(Arc<Semaphore>);

impl WholeLists {
    const AT_ONCE: usize = 8;
    /// Who waits longer has mostly given up.
    const PATIENCE: Duration = Duration::from_secs(1);

    async fn turn(&self, limit: Option<usize>) -> Result<Option<SemaphorePermit<'_>>, Problem> {
        if limit.is_some() {
            return Ok(None);
        }
        match self.0.try_acquire() {
            Ok(turn) => Ok(Some(turn)),
            Err(_) => match timeout(Self::PATIENCE, self.0.acquire()).await {
                Ok(Ok(turn)) => Ok(Some(turn)),
                Ok(Err(_)) | Err(_) => Err(Problem::overloaded()),
            },
        }
    }
}

impl Default for WholeLists {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(Self::AT_ONCE)))
    }
}

#[derive(Debug)]
struct Filter {
    name: Option<String>,
    kind: Option<ServiceType>,
    status: Option<Status>,
    selection: Selection,
    /// In lower case.
    text: Option<String>,
}

impl Filter {
    fn of(params: &mut Params) -> Self {
        Self {
            name: params.read("name", asked_name),
            kind: params.read("type", service_type),
            status: params.read("status", status),
            selection: Selection::of(params),
            text: params.read("q", |text| Ok(text.to_lowercase())),
        }
    }

    fn takes(&self, instance: &Instance) -> bool {
        self.name.as_deref().is_none_or(|name| instance.service.as_str() == name)
            && self.kind.is_none_or(|kind| instance.spec.kind == kind)
            && self.status.is_none_or(|status| instance.status() == status)
            && self.selection.takes(instance)
            && self.text.as_deref().is_none_or(|text| mentions(instance, text))
    }
}

/// Whether a text occurs in the name, the host, the version or a tag of an instance.
fn mentions(instance: &Instance, text: &str) -> bool {
    let has = |value: &str| value.to_lowercase().contains(text);
    let metadata = &instance.spec.metadata;
    has(instance.service.as_str())
        || has(instance.spec.host.as_str())
        || has(&metadata.version)
        || metadata.tags.iter().any(|(key, value)| has(key) || has(value))
}

#[derive(Debug)]
struct Paging {
    sort: Sort,
    limit: Option<usize>,
    cursor: Option<Cursor>,
}

impl Paging {
    fn of(params: &mut Params) -> Self {
        let sort = params.read("sort", Sort::parse).unwrap_or_default();
        let cursor = params.read("cursor", Cursor::read);
        if cursor.as_ref().is_some_and(|cursor| !cursor.is_of(sort)) {
            params.refuse("cursor", "belongs to a list in another order");
        }
        let limit = params.number("limit", 1, 1000).and_then(|limit| usize::try_from(limit).ok());
        Self { sort, limit, cursor }
    }

    /// A page, and where the next one begins if there is one.
    fn page(
        &self,
        snapshot: &Snapshot,
        filter: &Filter,
        may: impl Fn(&ServiceView) -> bool,
    ) -> (Vec<Arc<Instance>>, Option<Cursor>) {
        let most = self.limit.map_or(usize::MAX, |limit| limit + 1);
        let mut page: Vec<Arc<Instance>> = Vec::new();
        for view in self.services(snapshot, filter).filter(|view| may(view)) {
            let start = page.len();
            let wanted = |instance: &&Arc<Instance>| {
                filter.takes(instance) && self.cursor.as_ref().is_none_or(|cursor| cursor.is_before(instance))
            };
            page.extend(view.instances.values().filter(wanted).cloned());
            if self.sort.is_by_name() {
                // services come in the order of their names, so each is in its place already
                if let Some(added) = page.get_mut(start..) {
                    added.sort_unstable_by(|one, other| self.sort.compare(one, other));
                }
                if page.len() >= most {
                    break;
                }
            }
        }
        if !self.sort.is_by_name() {
            page.sort_unstable_by(|one, other| self.sort.compare(one, other));
        }
        let has_more = page.len() >= most;
        if let Some(limit) = self.limit {
            page.truncate(limit);
        }
        let last = page.last().filter(|_| has_more).map(|instance| Cursor::at(self.sort, instance));
        (page, last)
    }

    fn services<'s>(
        &'s self,
        snapshot: &'s Snapshot,
        filter: &Filter,
    ) -> Box<dyn Iterator<Item = &'s Arc<ServiceView>> + Send + 's> {
        if let Some(name) = &filter.name {
            return Box::new(snapshot.service(name).into_iter());
        }
        let first = self.cursor.as_ref().filter(|_| self.sort.is_by_name()).map_or("", Cursor::name);
        Box::new(snapshot.services_from(first))
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters to OpenAPI")]
struct ListParams {
    /// Only the instances of this service.
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._:-]+$", required = false)]
    name: String,
    #[param(schema_with = types, required = false)]
    r#type: String,
    #[param(schema_with = statuses, required = false)]
    status: String,
    /// Only those whose metadata.environment is this.
    #[param(required = false)]
    environment: String,
    #[param(required = false)]
    region: String,
    #[param(required = false)]
    zone: String,
    #[param(schema_with = wanted_tags, required = false)]
    tag: Vec<String>,
    /// A text to be found in name, host, version or tags, in upper or lower case.
    #[param(required = false)]
    q: String,
    /// `name`, `registered_at`, `updated_at` or `status`; with `-` before it descending.
    #[param(default = "name", pattern = "^-?(name|registered_at|updated_at|status)$", required = false)]
    sort: String,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, required = false)]
    limit: u16,
    /// From the Link header of the page before, in the same order.
    #[param(min_length = 1, pattern = "^[0-9A-Fa-f]+$", required = false)]
    cursor: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doors::native::sample;

    fn snapshot() -> Snapshot {
        let instances = ["a", "b", "b", "b", "c"].iter().zip(1_u8..).map(|(name, number)| {
            let registration = json!({
                "name": name, "type": "api", "host": "Host", "port": 100 - number,
                "metadata": {"tags": {"Team": "Red"}},
            });
            sample::instance(number.into(), &registration)
        });
        Snapshot::loaded(1, 9, instances.collect(), Vec::new())
    }

    fn walk(query: &str) -> Vec<Vec<u128>> {
        let snapshot = snapshot();
        let mut params = Params::parse(query).unwrap();
        let mut pages = Vec::new();
        loop {
            let (filter, paging) = (Filter::of(&mut params), Paging::of(&mut params));
            params.finish().unwrap();
            let (page, next) = paging.page(&snapshot, &filter, |_| true);
            pages.push(page.iter().map(|instance| instance.id.0.as_u128()).collect());
            let Some(cursor) = next else { return pages };
            params = Params::parse(&params.with("cursor", &cursor.write())).unwrap();
        }
    }

    #[test]
    fn without_a_limit_all_come_at_once_in_the_order_of_names() {
        assert_eq!(walk(""), [[1, 2, 3, 4, 5]]);
        assert_eq!(walk("sort=-name"), [[5, 4, 3, 2, 1]]);
        assert_eq!(walk("name=B"), [[2, 3, 4]]);
        assert_eq!(walk("name=watch"), [[0_u128; 0]]);
        assert_eq!(walk("q=host"), [[1, 2, 3, 4, 5]]);
        assert_eq!(walk("q=RED&name=c"), [[5]]);
        assert_eq!(walk("q=nowhere"), [[0_u128; 0]]);
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap() {
        let pages = |list: &[&[u128]]| list.iter().map(|page| page.to_vec()).collect::<Vec<_>>();
        assert_eq!(walk("limit=2"), pages(&[&[1, 2], &[3, 4], &[5]]));
        assert_eq!(walk("limit=5"), pages(&[&[1, 2, 3, 4, 5]]));
        assert_eq!(walk("limit=1&name=b"), pages(&[&[2], &[3], &[4]]));
        assert_eq!(walk("limit=3&sort=-registered_at"), pages(&[&[5, 4, 3], &[2, 1]]));
    }

    #[tokio::test(start_paused = true)]
    async fn whole_lists_are_made_a_few_at_a_time() {
        let lists = WholeLists::default();
        let mut turns = Vec::new();
        for _ in 0..WholeLists::AT_ONCE {
            turns.push(lists.turn(None).await.unwrap().unwrap());
        }
        assert!(lists.turn(Some(10)).await.unwrap().is_none());
        assert_eq!(lists.turn(None).await.unwrap_err().status(), StatusCode::SERVICE_UNAVAILABLE);
        turns.pop();
        assert!(lists.turn(None).await.unwrap().is_some());
    }

    #[test]
    fn malformed_filters_are_refused() {
        let cursor = Cursor::at(Sort::default(), snapshot().instances().values().next().unwrap()).write();
        for query in [
            "name=a+b",
            "type=API",
            "status=ill",
            "tag=x",
            "sort=load",
            "limit=0",
            "limit=1001",
            "limit=ten",
            "cursor=zz",
            &format!("sort=status&cursor={cursor}"),
        ] {
            let mut params = Params::parse(query).unwrap();
            let _ = (Filter::of(&mut params), Paging::of(&mut params));
            assert!(params.finish().is_err(), "{query}");
        }
    }
}
