//! Mirroring: copies of requests go to another backend too, and what that answers is thrown away.
//!
//! A copy is made when the request's own exchange has come to the head of its response or failed, from the replay
//! buffer, and a task sends it: the request waits for nothing, and nothing that happens to the copy concerns it. Copies
//! have limits of their own. Each is counted by its outcome, also those that were not sent.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    time::Instant,
};

use http::{Request, uri::Authority};
use http_body::Body as _;
use proxy_http::{
    Body, filter,
    h1::Form,
    headers::{MESH_MIRRORED, TRUE},
};
use proxy_model::ClientAddr;

use crate::{
    context::Context,
    deliver::{Client, Delivered, deliver},
    request::Outgoing,
    response::ResponseBody,
    route::Plan,
    snapshot::Rule,
    timeout::{Clock, Phase, within},
};

/// A copy on its way.
struct Copy {
    request: Request<Body>,
    form: Form,
    authority: Authority,
}

/// Sends copies of a request to the mirrors of its rule.
pub(crate) fn copy(context: &Rc<Context>, client: ClientAddr, plan: &Plan, out: &Outgoing<'_>) {
    let Some(rule) = plan.source.rule() else {
        return;
    };
    for mirror in rule.mirrors.iter().filter(|mirror| filter::is_drawn(mirror.ratio)) {
        let Some((body, bytes)) = out.copied_body() else {
            mirror.slot.incomplete.inc();
            continue;
        };
        let Some(held) = context.copies.hold(&context.metrics, bytes) else {
            mirror.slot.refused.inc();
            continue;
        };
        let copy = Copy {
            request: copied(out.request, body),
            form: out.form,
            authority: out.authority.clone(),
        };
        let (task, rule, slot) = (context.clone(), mirror.rule.clone(), mirror.slot.clone());
        context.copies.spawn(held, async move {
            match send(&task, client, rule, copy).await {
                Ok(()) => slot.answered.inc(),
                Err(error) => {
                    tracing::debug!(%error, "mirrored request failed");
                    slot.failed.inc();
                }
            }
        });
    }
}

fn copied(request: &Request<Body>, body: Body) -> Request<Body> {
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy.headers_mut().insert(MESH_MIRRORED, TRUE);
    copy
}

/// Sends a copy and reads its response to the end.
async fn send(context: &Context, addr: ClientAddr, rule: Rc<Rule>, copy: Copy) -> Result<(), String> {
    let Copy {
        mut request,
        form,
        authority,
    } = copy;
    let plan = Plan::from_mirror(rule, Instant::now());
    let mut out = Outgoing::new(&mut request, form, authority).map_err(|error| error.to_string())?;
    let clock = Clock::new(plan.time_limits(), plan.started);
    if let Some(clock) = &clock {
        out.time(clock);
    }
    let (client, mut tried) = (Client { context, addr }, Vec::new());
    let delivery = pin!(deliver(&client, &plan, &mut out, plan.started, &mut tried));
    let delivered = within(clock.as_ref(), Phase::Exchange, delivery).await.flatten();
    let Delivered { response, track, .. } = delivered.map_err(|error| error.to_string())?;
    let mut body = ResponseBody::new(response.into_body(), track, clock);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        frame.map_err(|error| error.to_string())?;
    }
    Ok(())
}
