//! The rules that upstream declares beside the types of this group.

use super::parts::{EFFECTS, declared_extended_name, declared_full_name, declared_pool_name};
use crate::kinds::declared::{
    Given::{Filled, There},
    Rule::{
        self, Each, EachBy, EachKey, Enum, Field, Form, Immutable, MaxBytes, MaxItems, MaxLength,
        OneOf, Optional, Required, Unique, Unmodified,
    },
    label_key, long_name, long_name_caseless, short_name, uuid,
};

const DRIVER: &[Rule] = &[Required(Filled), Form(long_name_caseless), MaxLength(63)];

const TOLERATIONS: &[Rule] = &[
    Optional(Filled),
    Each(&[
        Field("key", &[Optional(Filled), Form(label_key)]),
        Field("operator", &[Required(Filled), Enum(&["Equal", "Exists"])]),
        Field("effect", &[Optional(Filled), Enum(EFFECTS)]),
    ]),
];

const TAINT: &[Rule] = &[Field("effect", &[Required(Filled), Enum(EFFECTS)])];

const OPAQUE: &[Rule] = &[Optional(There), Field("driver", DRIVER)];

/// Names of requests.
const REQUESTS: &[Rule] = &[Optional(Filled), MaxItems(32), Unique(&[], "string")];

const SELECTORS: &[Rule] = &[Optional(Filled), MaxItems(32)];
const MODE: &[Rule] = &[Optional(Filled), Enum(&["All", "ExactCount"])];

const EXACTLY: &[Rule] = &[
    Optional(There),
    Field("selectors", SELECTORS),
    Field("allocationMode", MODE),
    Field("tolerations", TOLERATIONS),
];

const ALTERNATIVE: &[Rule] = &[
    Field("deviceClassName", &[Required(Filled), Form(long_name)]),
    Field("selectors", SELECTORS),
    Field("allocationMode", MODE),
    Field("tolerations", TOLERATIONS),
];

const REQUEST: &[Rule] = &[
    Field("exactly", EXACTLY),
    Field(
        "firstAvailable",
        &[
            Optional(Filled),
            MaxItems(8),
            Unique(&["name"], "resource.DeviceSubRequest"),
            EachBy(&["name"], ALTERNATIVE),
        ],
    ),
];

const CONSTRAINT: &[Rule] = &[
    Field("requests", REQUESTS),
    Field("matchAttribute", &[Optional(There), Form(declared_full_name)]),
    Field("distinctAttribute", &[Optional(There), Form(declared_full_name)]),
];

const CLAIM_CONFIG: &[Rule] = &[Field("requests", REQUESTS), Field("opaque", OPAQUE)];

const CLAIM_DEVICES: &[Rule] = &[
    Field(
        "requests",
        &[
            Optional(Filled),
            MaxItems(32),
            Unique(&["name"], "resource.DeviceRequest"),
            EachBy(&["name"], REQUEST),
        ],
    ),
    Field("constraints", &[Optional(Filled), MaxItems(32), Each(CONSTRAINT)]),
    Field("config", &[Optional(Filled), MaxItems(32), Each(CLAIM_CONFIG)]),
];

const CONDITION_NAMES: &[Rule] = &[Optional(Filled), MaxItems(4)];

const RESULT: &[Rule] = &[
    Field("driver", DRIVER),
    Field("pool", &[Required(Filled), Form(declared_pool_name)]),
    Field("tolerations", TOLERATIONS),
    Field("bindingConditions", CONDITION_NAMES),
    Field("bindingFailureConditions", CONDITION_NAMES),
    Field("shareID", &[Optional(There), Form(uuid)]),
];

const RESULT_CONFIG: &[Rule] = &[
    Field("source", &[Required(Filled), Enum(&["FromClaim", "FromClass"])]),
    Field("requests", REQUESTS),
    Field("opaque", OPAQUE),
];

const ALLOCATION: &[Rule] = &[
    Optional(There),
    Unmodified,
    Field(
        "devices",
        &[
            Field("results", &[Optional(Filled), MaxItems(32), Each(RESULT)]),
            Field("config", &[Optional(Filled), MaxItems(64), Each(RESULT_CONFIG)]),
        ],
    ),
];

const NETWORK: &[Rule] = &[
    Optional(There),
    Field("interfaceName", &[Optional(Filled), MaxBytes(256)]),
    Field("ips", &[Optional(Filled), MaxItems(16), Unique(&[], "string")]),
    Field("hardwareAddress", &[Optional(Filled), MaxBytes(128)]),
];

const DEVICE_KEYS: &[&str] = &["driver", "pool", "device", "shareID"];

const CLAIM_STATUS: &[Rule] = &[
    Field("allocation", ALLOCATION),
    Field(
        "reservedFor",
        &[
            Optional(Filled),
            MaxItems(256),
            Unique(&["uid"], "resource.ResourceClaimConsumerReference"),
        ],
    ),
    Field(
        "devices",
        &[
            Optional(Filled),
            Unique(DEVICE_KEYS, "resource.AllocatedDeviceStatus"),
            EachBy(
                DEVICE_KEYS,
                &[Field("shareID", &[Optional(There), Form(uuid)]), Field("networkData", NETWORK)],
            ),
        ],
    ),
];

const COUNTERS: &[Rule] = &[Required(Filled), EachKey(short_name)];

const ATTRIBUTE: &[Rule] = &[OneOf(&[
    ("int", There),
    ("bool", There),
    ("string", There),
    ("version", There),
    ("ints", Filled),
    ("bools", Filled),
    ("strings", Filled),
    ("versions", Filled),
])];

const CONSUMPTION: &[Rule] =
    &[Field("counterSet", &[Required(Filled), Form(short_name)]), Field("counters", COUNTERS)];

const DEVICE: &[Rule] = &[
    Field("attributes", &[Optional(Filled), Each(ATTRIBUTE)]),
    Field(
        "consumesCounters",
        &[
            Optional(Filled),
            MaxItems(2),
            Unique(&["counterSet"], "resource.DeviceCounterConsumption"),
            EachBy(&["counterSet"], CONSUMPTION),
        ],
    ),
    Field("taints", &[Optional(Filled), Each(TAINT)]),
    Field("bindingConditions", CONDITION_NAMES),
    Field("bindingFailureConditions", CONDITION_NAMES),
];

const COUNTER_SET: &[Rule] =
    &[Field("name", &[Required(Filled), Form(short_name)]), Field("counters", COUNTERS)];

/// Of ResourceClaims.
pub(super) const CLAIM: &[Rule] =
    &[Field("spec", &[Immutable, Field("devices", CLAIM_DEVICES)]), Field("status", CLAIM_STATUS)];

/// Of ResourceClaimTemplates.
pub(super) const TEMPLATE: &[Rule] =
    &[Field("spec", &[Field("spec", &[Field("devices", CLAIM_DEVICES)])])];

/// Of DeviceClasses.
pub(super) const CLASS: &[Rule] = &[
    Field("metadata", &[Field("name", &[Optional(Filled), Form(long_name)])]),
    Field(
        "spec",
        &[
            Field("selectors", SELECTORS),
            Field("config", &[Optional(Filled), MaxItems(32), Each(&[Field("opaque", OPAQUE)])]),
            Field("extendedResourceName", &[Optional(There), Form(declared_extended_name)]),
        ],
    ),
];

/// Of ResourceSlices.
pub(super) const SLICE: &[Rule] = &[Field(
    "spec",
    &[
        Field("devices", &[Optional(Filled), Each(DEVICE)]),
        Field(
            "sharedCounters",
            &[
                Optional(Filled),
                MaxItems(8),
                Unique(&["name"], "resource.CounterSet"),
                EachBy(&["name"], COUNTER_SET),
            ],
        ),
    ],
)];

/// Of DeviceTaintRules.
pub(super) const TAINT_RULE: &[Rule] = &[Field("spec", &[Field("taint", TAINT)])];
