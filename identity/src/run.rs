//! The program's life: read files, serve, poll files, drain.

use std::{process::ExitCode, time::Duration};

use destination_source::{
    Error,
    cluster::{self, Access, ClientOptions},
};
use identity_x509::LeafTimes;
use proxy_process::{
    admin::{self, Admin, Readiness},
    log, signals,
    tasks::Tasks,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::{args::Args, authority, certify::Certifier, grpc::Identity, metrics::Metrics, token};

/// Time for calls in progress to end after a signal; one takes a millisecond.
const GRACE: Duration = Duration::from_secs(10);
/// Time for one call, so that a stuck client does not hold resources.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Concurrent calls on one connection; a proxy makes one.
const CALLS_PER_CONNECTION: usize = 64;

/// Runs until a signal ends it.
pub(crate) fn run(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(serve(args)),
        Err(error) => Err(anyhow::anyhow!("cannot start the runtime: {error}")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-identity: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let filter = std::env::var("MESH_LOG").unwrap_or_else(|_| "info".to_owned());
    let _log = log::init(&filter, log::Format::Plain)?;
    let stop = signals::stop_token()?;
    let listener = admin::listen(args.addr).await?;
    let admin_listener = admin::listen(args.admin_addr).await?;
    let metrics = Metrics::new();
    let (issuer_files, mut issuer) = authority::Reload::new(&args, metrics.clone());
    let (validator, token_files) = validator(&args).await?;
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
    let ready = Readiness::default();
    let admin = {
        let metrics = metrics.clone();
        Admin::new(ready.clone(), move || metrics.render())
    };
    let mut server = Server::builder()
        .timeout(CALL_TIMEOUT)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION);
    let server = server.add_service(Identity { certifier, metrics }.into_server());
    let served = server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());

    let mut tasks = Tasks::new(stop.clone());
    tasks.spawn("identity", served);
    tasks.spawn("admin", admin::serve(admin_listener, admin, stop.clone()));
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
    Ok(tasks.finish(GRACE).await?)
}

/// Makes the validator of tokens, and the task that reloads its keys.
async fn validator(args: &Args) -> anyhow::Result<(token::Validator, Option<token::Reload>)> {
    if let Some(jwks) = &args.jwks {
        let (token_files, jwks) = token::Reload::new(jwks.clone(), args.clock_skew_allowance);
        return Ok((token::Validator::Jwks(jwks), Some(token_files)));
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
    Ok((token::Validator::Kubernetes(client), None))
}
