//! Hostile values of objects: quantities, weights and networks.

use destination_k8s::{
    policy::Cidr,
    quantity::{self, Weight},
};
use tests_fuzz::{Target, within};

#[test]
fn fuzz_quantities() {
    let seeds = [
        "100m",
        "250Mi",
        "1e3",
        "0.5",
        "1E",
        "10.0.0.0/8",
        "fd00::/8",
        "10.1.2.3",
    ];
    let target = Target {
        name: "fuzz_quantities",
        seeds: seeds.map(|text| text.as_bytes().to_vec()).into(),
        words: &[
            "Ki",
            "Ei",
            "e-9",
            "E400",
            "n",
            ".",
            "-",
            "+",
            "/",
            "NaN",
            "inf",
            "1e308",
            "99999999999999999999",
        ],
    };
    target.run(|bytes| {
        let text = &String::from_utf8_lossy(bytes);
        let amount = within(64 * text.len() + 1024, || quantity::parse(text));
        assert!(
            amount.is_none_or(|amount| amount.is_finite() && amount >= 0.0),
            "{text:?}: {amount:?}"
        );
        if let Some(weight) = Weight::parse(text) {
            assert_eq!(Weight::parse(&weight.to_string()), Some(weight), "{text:?}");
            let json = serde_json::to_value(weight).expect("JSON");
            assert_eq!(serde_json::from_value::<Weight>(json).ok(), Some(weight));
        }
        if let Ok(network) = text.parse::<Cidr>() {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
    });
}
