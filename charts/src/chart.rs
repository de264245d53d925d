//! The charts' files, embedded from the folders beside `src`.

use serde_json::Value;

use crate::{Error, schema, values};

/// A chart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Chart {
    /// Custom resource definitions.
    Crds,
    /// Control plane.
    ControlPlane,
    /// mesh-viz: metrics, edges, tap.
    Viz,
    /// CNI plugin.
    Cni,
}

/// Files of a chart.
struct Files {
    chart: &'static str,
    values: &'static str,
    schema: &'static str,
    /// In order of application.
    templates: &'static [(&'static str, &'static str)],
}

const CRDS: Files = Files {
    chart: include_str!("../mesh-crds/Chart.yaml"),
    values: include_str!("../mesh-crds/values.yaml"),
    schema: include_str!("../mesh-crds/values.schema.json"),
    templates: &[
        (
            "serviceprofile.yaml",
            include_str!("../mesh-crds/templates/serviceprofile.yaml"),
        ),
        (
            "trafficsplit.yaml",
            include_str!("../mesh-crds/templates/trafficsplit.yaml"),
        ),
        (
            "traffictarget.yaml",
            include_str!("../mesh-crds/templates/traffictarget.yaml"),
        ),
        (
            "httproutegroup.yaml",
            include_str!("../mesh-crds/templates/httproutegroup.yaml"),
        ),
        ("tcproute.yaml", include_str!("../mesh-crds/templates/tcproute.yaml")),
        ("udproute.yaml", include_str!("../mesh-crds/templates/udproute.yaml")),
        ("server.yaml", include_str!("../mesh-crds/templates/server.yaml")),
        (
            "serverauthorization.yaml",
            include_str!("../mesh-crds/templates/serverauthorization.yaml"),
        ),
        (
            "authorizationpolicy.yaml",
            include_str!("../mesh-crds/templates/authorizationpolicy.yaml"),
        ),
        (
            "meshtlsauthentication.yaml",
            include_str!("../mesh-crds/templates/meshtlsauthentication.yaml"),
        ),
        (
            "networkauthentication.yaml",
            include_str!("../mesh-crds/templates/networkauthentication.yaml"),
        ),
        ("httproute.yaml", include_str!("../mesh-crds/templates/httproute.yaml")),
        (
            "httplocalratelimitpolicy.yaml",
            include_str!("../mesh-crds/templates/httplocalratelimitpolicy.yaml"),
        ),
        (
            "egressnetwork.yaml",
            include_str!("../mesh-crds/templates/egressnetwork.yaml"),
        ),
    ],
};

const CONTROL_PLANE: Files = Files {
    chart: include_str!("../mesh-control-plane/Chart.yaml"),
    values: include_str!("../mesh-control-plane/values.yaml"),
    schema: include_str!("../mesh-control-plane/values.schema.json"),
    templates: &[
        (
            "_helpers.tpl",
            include_str!("../mesh-control-plane/templates/_helpers.tpl"),
        ),
        ("_proxy.tpl", include_str!("../mesh-control-plane/templates/_proxy.tpl")),
        (
            "namespace.yaml",
            include_str!("../mesh-control-plane/templates/namespace.yaml"),
        ),
        (
            "config.yaml",
            include_str!("../mesh-control-plane/templates/config.yaml"),
        ),
        (
            "network-policies.yaml",
            include_str!("../mesh-control-plane/templates/network-policies.yaml"),
        ),
        (
            "identity.yaml",
            include_str!("../mesh-control-plane/templates/identity.yaml"),
        ),
        (
            "destination.yaml",
            include_str!("../mesh-control-plane/templates/destination.yaml"),
        ),
        (
            "proxy-injector.yaml",
            include_str!("../mesh-control-plane/templates/proxy-injector.yaml"),
        ),
    ],
};

const VIZ: Files = Files {
    chart: include_str!("../mesh-viz/Chart.yaml"),
    values: include_str!("../mesh-viz/values.yaml"),
    schema: include_str!("../mesh-viz/values.schema.json"),
    templates: &[
        ("_helpers.tpl", include_str!("../mesh-viz/templates/_helpers.tpl")),
        ("namespace.yaml", include_str!("../mesh-viz/templates/namespace.yaml")),
        ("rbac.yaml", include_str!("../mesh-viz/templates/rbac.yaml")),
        (
            "network-policies.yaml",
            include_str!("../mesh-viz/templates/network-policies.yaml"),
        ),
        ("mesh-viz.yaml", include_str!("../mesh-viz/templates/mesh-viz.yaml")),
        ("tap.yaml", include_str!("../mesh-viz/templates/tap.yaml")),
        ("policy.yaml", include_str!("../mesh-viz/templates/policy.yaml")),
    ],
};

const CNI: Files = Files {
    chart: include_str!("../mesh-cni/Chart.yaml"),
    values: include_str!("../mesh-cni/values.yaml"),
    schema: include_str!("../mesh-cni/values.schema.json"),
    templates: &[
        ("_helpers.tpl", include_str!("../mesh-cni/templates/_helpers.tpl")),
        ("namespace.yaml", include_str!("../mesh-cni/templates/namespace.yaml")),
        ("rbac.yaml", include_str!("../mesh-cni/templates/rbac.yaml")),
        (
            "linkerd-cni.yaml",
            include_str!("../mesh-cni/templates/linkerd-cni.yaml"),
        ),
    ],
};

impl Chart {
    /// All charts.
    pub const ALL: [Self; 4] = [Self::Crds, Self::ControlPlane, Self::Viz, Self::Cni];

    /// Name of the chart and its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crds => "mesh-crds",
            Self::ControlPlane => "mesh-control-plane",
            Self::Viz => "mesh-viz",
            Self::Cni => "mesh-cni",
        }
    }

    /// Version of the chart and of the programs it installs.
    pub fn version(self) -> &'static str {
        let mut lines = self.files().chart.lines();
        lines
            .find_map(|line| line.strip_prefix("version: "))
            .expect("a chart has a version")
    }

    /// Merges `given` into the chart's defaults and validates the result.
    pub fn values(self, given: &Value) -> Result<Value, Error> {
        let mut all = values::parse(self.files().values)?;
        values::merge(&mut all, given);
        let schema = serde_json::from_str(self.files().schema).expect("a chart's schema is JSON");
        schema::check(&schema, &all, "")?;
        Ok(all)
    }

    /// Values of a highly available installation, if the chart has any.
    pub fn high_availability(self) -> Option<&'static str> {
        match self {
            Self::ControlPlane => Some(include_str!("../mesh-control-plane/values-ha.yaml")),
            _ => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn default_values(self) -> &'static str {
        self.files().values
    }

    pub(crate) fn templates(self) -> &'static [(&'static str, &'static str)] {
        self.files().templates
    }

    fn files(self) -> &'static Files {
        match self {
            Self::Crds => &CRDS,
            Self::ControlPlane => &CONTROL_PLANE,
            Self::Viz => &VIZ,
            Self::Cni => &CNI,
        }
    }
}
