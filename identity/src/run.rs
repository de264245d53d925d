//! The program's life: read files, serve, poll files, drain.

use std::{process::ExitCode, time::Duration};

use axum::Router;
use destination_source::{
    Error,
    cluster::{self, Access, ClientOptions},
};
use identity_x509::LeafTimes;
use proxy_process::{
    program::{self, Context, Program},
    serve::Refusals,
    tasks::Tasks,
};

use crate::{
    args::Args, authority, certify::Certifier, grpc::Identity, metrics::Metrics, review::Reviewer, token,
    validator::Validator,
};

/// Time for calls in progress to end after a signal; one takes a millisecond.
const GRACE: Duration = Duration::from_secs(10);

/// Runs until a signal ends it.
pub(crate) fn run(args: Args) -> ExitCode {
    let program = Program {
        name: "mesh-identity",
        threads: 0,
        grace: GRACE,
    };
    program::main(program, |context| start(args, context))
}

async fn start(args: Args, mut context: Context) -> anyhow::Result<Tasks> {
    let listener = context.listen(args.addr).await?;
    let admin_listener = context.listen(args.admin_addr).await?;
    let metrics = Metrics::new();
    let (issuer_files, mut issuer) = authority::Reload::new(&args, metrics.clone());
    let (validator, token_files) = validator(&args, context.refusals.clone()).await?;
    let certifier = Certifier {
        authority: issuer.clone(),
        validator,
        control_plane_namespace: args.control_plane_namespace.clone(),
        trust_domain: args.identity_trust_domain.clone(),
        times: LeafTimes {
            lifetime: args.issuance_lifetime,
            skew: args.clock_skew_allowance,
        },
    };
    let rendered = metrics.clone();
    context.serve_admin(admin_listener, move || rendered.render(), Router::new());
    let (server, stop) = (context.server("identity"), context.stop.clone());
    let served = Identity { certifier, metrics }.serve(server, listener, stop);

    let Context { mut tasks, ready, .. } = context;
    tasks.spawn("identity", served);
    tasks.spawn_until_stop("issuer", issuer_files.run());
    if let Some(token_files) = token_files {
        tasks.spawn_until_stop("token keys", token_files.run());
    }
    tasks.spawn_until_stop("readiness", async move {
        // Ready once there is an issuer; a valid issuer is kept, so readiness is never withdrawn.
        if issuer.wait_for(Option::is_some).await.is_ok() {
            ready.set();
        }
        std::future::pending::<()>().await;
    });
    Ok(tasks)
}

/// Makes the validator of tokens, and the task that reloads its keys.
async fn validator(args: &Args, refusals: Refusals) -> anyhow::Result<(Validator, Option<token::Reload>)> {
    if let Some(jwks) = &args.jwks {
        let (token_files, jwks) = token::Reload::new(jwks.clone(), args.clock_skew_allowance);
        return Ok((Validator::Jwks(jwks), Some(token_files)));
    }
    let options = ClientOptions {
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone(),
        ..ClientOptions::default()
    };
    let client = cluster::client(&options).await?;
    let review = Access {
        verb: "create".to_owned(),
        group: "authentication.k8s.io".to_owned(),
        resource: "tokenreviews".to_owned(),
        ..Access::default()
    };
    match cluster::self_subject_access_review(&client, &review).await {
        Ok(decision) if !decision.allowed => {
            anyhow::bail!(
                "permission denied: cannot create tokenreviews: bind the ClusterRole system:auth-delegator to the ServiceAccount of mesh-identity"
            )
        }
        Ok(_) => {}
        // The API server may come back; until then, tokens cannot be validated.
        Err(error @ Error::Unreachable { .. }) => tracing::warn!("{error}"),
        Err(error) => return Err(error.into()),
    }
    let reviewer = Reviewer::new(client, args.accept_api_server_tokens, move |limit| {
        refusals.count(limit);
    });
    Ok((Validator::Kubernetes(reviewer), None))
}
