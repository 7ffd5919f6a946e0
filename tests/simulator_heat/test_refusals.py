"""What Heat refuses, in its own words. The same table holds for real Heat where OS_CLOUD names one (Heat 27, OpenStack 2026.2)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from shared.services.hot import HotTemplates
from tests.simulator_heat.conftest import Caller

Ask = Callable[[str, str, Any], Any]
HOT = "heat_template_version: 2021-04-16\n"
NET = HOT + "resources:\n  n: {type: OS::Neutron::Net}\n"
FAILED, BAD = "StackValidationFailed", "HTTPBadRequest"


def _simulated(request: pytest.FixtureRequest) -> Ask:
    caller: Caller = request.getfixturevalue("member")
    return caller.heat


def _real() -> Ask:
    if "OS_CLIENT_CONFIG_FILE" not in os.environ or "OS_CLOUD" not in os.environ:
        pytest.skip("OS_CLIENT_CONFIG_FILE and OS_CLOUD name no real services")
    clouds = yaml.safe_load(Path(os.environ["OS_CLIENT_CONFIG_FILE"]).read_text(encoding="utf-8"))["clouds"]
    auth = clouds[os.environ["OS_CLOUD"]]["auth"]
    plugin = v3.Password(
        auth["auth_url"],
        username=auth["username"],
        password=auth["password"],
        project_name=auth["project_name"],
        user_domain_name="Default",
        project_domain_name="Default",
    )
    session = Session(plugin)
    place = {"service_type": "orchestration"}

    def ask(method: str, path: str, body: Any) -> Any:
        return session.request(path, method, json=body, endpoint_filter=place, raise_exc=False, redirect=False)

    return ask


@pytest.fixture(scope="module", params=["simulator", "real"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return _simulated(request) if request.param == "simulator" else _real()


def resource(properties: str, kind: str = "OS::Neutron::Net") -> str:
    return f"{HOT}resources:\n  n: {{type: {kind}, properties: {properties}}}\n"


def parameter(kind: str, constraint: str = "") -> str:
    more = f", constraints: [{constraint}]" if constraint else ""
    return f"{HOT}parameters:\n  a: {{type: {kind}{more}}}\nresources:\n  n: {{type: OS::Neutron::Net}}\n"


DOCUMENTS = [
    ("a: [", BAD, "Template not in valid format: Error parsing template"),
    ("abc", BAD, "Template not in valid format: The template is not a JSON object or YAML mapping."),
    ("resources: {}", BAD, "Template not in valid format: Template format version not found."),
    (
        "heat_template_version: 2099-01-01",
        "InvalidTemplateVersion",
        'The template version is invalid: "heat_template_version: 2099-01-01"',
    ),
    (HOT + "banana: {}", FAILED, "The template section is invalid: banana"),
    (HOT + "resources: [a]", FAILED, "'list' object has no attribute 'items'"),
    (HOT + "resources:\n  n: {type: OS::Banana}", FAILED, "The Resource Type (OS::Banana) could not be found."),
    (HOT + "resources:\n  n: {properties: {}}", FAILED, "Each resource must contain a type key."),
    (HOT + "resources:\n  n: {type: OS::Neutron::Net, colour: x}", FAILED, '"colour" is not a valid keyword inside a resource'),
    (
        HOT + "resources:\n  n: {type: OS::Neutron::Net, depends_on: z}",
        "InvalidTemplateReference",
        'reference "z" (in n) is incorrect',
    ),
    (
        HOT + "resources:\n  n: {type: OS::Neutron::Net, depends_on: m}\n  m: {type: OS::Neutron::Net, depends_on: n}",
        "CircularDependencyException",
        "Circular Dependency Found:",
    ),
    (
        HOT + "outputs: {a: {description: x}}",
        FAILED,
        "Output validation error: : outputs.a: : Each output definition must contain a value",
    ),
    (resource("{colour: x}"), FAILED, "Property error: : resources.n.properties: : Unknown Property colour"),
    (resource("{cidr: 10.0.0.0/24}", "OS::Neutron::Subnet"), FAILED, "resources.n.properties: : Property network not assigned"),
    (resource("{admin_state_up: banana}"), FAILED, 'resources.n.properties.admin_state_up: : "banana" is not a valid boolean'),
    (resource("{name: [a]}"), FAILED, "resources.n.properties.name: : Value must be a string; got ['a']"),
    (resource("{name: {banana: x}}"), FAILED, "resources.n.properties.name: : Value must be a string; got {'banana': 'x'}"),
    (
        resource("{name: {get_resource: x}}"),
        "InvalidTemplateReference",
        'The specified reference "x" (in n.Properties.name) is incorrect.',
    ),
    (resource("{name: {get_attr: [x, name]}}"), "InvalidTemplateReference", 'reference "x" (in n.Properties.name) is incorrect.'),
    (resource("{name: {get_param: x}}"), FAILED, "The Parameter (x) was not provided."),
    (resource("{name: {str_replace: [a]}}"), FAILED, 'Arguments to "str_replace" must be a map'),
    (resource("{name: {list_join: x}}"), FAILED, 'Incorrect arguments to "list_join" should be'),
    (resource("{name: {str_split: [',']}}"), FAILED, 'Incorrect arguments to "str_split" should be'),
    (resource("{name: {str_split: [',', 'a,b', 5]}}"), FAILED, 'Incorrect index to "str_split" should be between 0 and 1'),
    (resource("{name: {if: [nothing, b, c]}}"), FAILED, 'Invalid condition "nothing"'),
    (resource("{name: {repeat: {template: x}}}"), FAILED, '"repeat" syntax should be'),
    (resource("{name: {repeat: {for_each: {x: 5}, template: x}}}"), FAILED, 'The values of the "for_each" argument to "repeat"'),
    (
        HOT
        + "resources:\n  n: {type: OS::Neutron::Net}\n  m: {type: OS::Neutron::Net, properties: {name: {get_attr: [n, banana]}}}",
        FAILED,
        "resources.m.properties.name.get_attr: : The Referenced Attribute (n banana) is incorrect.",
    ),
    (resource("{router: x}", "OS::Neutron::RouterInterface"), FAILED, "Unable to find router with name or id 'x'"),
    (
        HOT + "resources:\n  r: {type: OS::Neutron::Router}\n"
        "  i: {type: OS::Neutron::RouterInterface, properties: {router: {get_resource: r}}}",
        "PropertyUnspecifiedError",
        "At least one of the following properties must be specified: subnet, port.",
    ),
]


@pytest.mark.parametrize("text, kind, words", DOCUMENTS)
def test_a_document_that_is_wrong(ask: Ask, text: str, kind: str, words: str) -> None:
    answer = ask("POST", "/stacks/preview", {"stack_name": "refused", "template": text})
    _is_refusal(answer, kind, words)


PARAMETERS = [
    (parameter("string"), {}, "UserParameterMissing", "The Parameter (a) was not provided."),
    (NET, {"b": 1}, "UnknownUserParameter", "The Parameter (b) was not defined in template."),
    (parameter("banana"), {"a": "x"}, "InvalidSchemaError", "Invalid type (banana)"),
    (parameter("number"), {"a": "x"}, FAILED, "Parameter 'a' is invalid: could not convert string to float: 'x'"),
    (parameter("boolean"), {"a": "x"}, FAILED, "Parameter 'a' is invalid: Unrecognized value 'x', acceptable values are: '0', '1'"),
    (parameter("json"), {"a": "x"}, FAILED, "Parameter 'a' is invalid: Value must be valid JSON"),
    (parameter("comma_delimited_list"), {"a": {"a": 1}}, FAILED, "Value must be a comma-delimited list string"),
    (parameter("string", "{allowed_values: [x, y]}"), {"a": "z"}, FAILED, '"z" is not an allowed value ["x", "y"]'),
    (parameter("string", "{length: {min: 3, max: 5}}"), {"a": "z"}, FAILED, "length (1) is out of range (min: 3, max: 5)"),
    (parameter("string", "{length: {min: 3}}"), {"a": "z"}, FAILED, "length (1) is out of range (min: 3, max: None)"),
    (parameter("number", "{range: {min: 3, max: 5}}"), {"a": "9"}, FAILED, "9 is out of range (min: 3, max: 5)"),
    (parameter("number", "{modulo: {step: 2, offset: 0}}"), {"a": "3"}, FAILED, "3 is not a multiple of 2 with an offset of 0"),
    (parameter("string", "{allowed_pattern: '[a-z]+'}"), {"a": "9"}, FAILED, '"9" does not match pattern "[a-z]+"'),
    (
        parameter("string", "{allowed_pattern: '[a-z]+', description: small letters}"),
        {"a": "9"},
        FAILED,
        "is invalid: small letters",
    ),
    (parameter("string", "{custom_constraint: net_cidr}"), {"a": "x"}, FAILED, "Error validating value 'x': Invalid net cidr"),
    (parameter("string", "{custom_constraint: ip_addr}"), {"a": "x"}, FAILED, "Error validating value 'x': Invalid IP address"),
    (
        parameter("string", "{custom_constraint: neutron.network}"),
        {"a": "no"},
        FAILED,
        "Unable to find network with name or id 'no'",
    ),
    (parameter("string", "{custom_constraint: nova.flavor}"), {"a": "no"}, FAILED, "No Flavor matching {'name': 'no'}. (HTTP 404)"),
    (parameter("string", "{custom_constraint: glance.image}"), {"a": "no"}, FAILED, "No images matching {'name': 'no'}."),
    (parameter("string", "{custom_constraint: banana}"), {"a": "x"}, FAILED, '"x" does not validate banana (constraint not found)'),
]


@pytest.mark.parametrize("text, given, kind, words", PARAMETERS)
def test_a_parameter_that_is_wrong(ask: Ask, text: str, given: dict[str, Any], kind: str, words: str) -> None:
    answer = ask("POST", "/stacks/preview", {"stack_name": "refused", "template": text, "parameters": given})
    _is_refusal(answer, kind, words)


BODIES = [
    ({"template": NET}, BAD, "No stack name specified"),
    ({"stack_name": "x"}, BAD, "No template specified"),
    ([1], BAD, "The server could not comply with the request"),
    ({"stack_name": "9bad", "template": NET}, FAILED, "Invalid stack name 9bad must contain only alphanumeric"),
    ({"stack_name": "", "template": NET}, FAILED, "Invalid stack name  must contain only alphanumeric"),
    ({"stack_name": "x", "template": NET, "timeout_mins": "x"}, BAD, "Only integer is acceptable by 'timeout_mins'."),
    ({"stack_name": "x", "template": NET, "tags": "a" * 81}, BAD, "is longer than 80 characters"),
]


@pytest.mark.parametrize("body, kind, words", BODIES)
def test_a_body_that_is_wrong(ask: Ask, body: Any, kind: str, words: str) -> None:
    _is_refusal(ask("POST", "/stacks", body), kind, words)


def test_a_flag_that_is_none(ask: Ask) -> None:
    answer = ask("POST", "/stacks", {"stack_name": "x", "template": NET, "disable_rollback": "maybe"})
    assert answer.json()["error"] == {"type": "ValueError", "traceback": None}
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "text, kind, words",
    [
        (HOT + "resources:\n  n: {type: OS::Banana}", BAD, "The Resource Type (OS::Banana) could not be found."),
        (resource("{colour: x}"), BAD, "Property error: resources.n.properties: Unknown Property colour"),
        (resource("{name: {get_resource: x}}"), "InvalidTemplateReference", 'The specified reference "x" (in n.Properties.name)'),
        ("heat_template_version: 2099-01-01", "InvalidTemplateVersion", "The template version is invalid"),
    ],
)
def test_validation_tells_what_is_wrong(ask: Ask, text: str, kind: str, words: str) -> None:
    _is_refusal(ask("POST", "/validate", {"template": text}), kind, words)


@pytest.mark.parametrize("name", sorted(HotTemplates().all))
def test_validation_tells_the_parameters_of_every_shipped_template(ask: Ask, name: str) -> None:
    template = HotTemplates().all[name]
    answer = ask("POST", "/validate", {"template": template.text})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert set(told["Parameters"]) == set(template.parameters)
    assert told["Description"] == yaml.safe_load(template.text)["description"]
    for key, spec in template.parameters.items():
        assert told["Parameters"][key]["Description"] == spec["description"]
        for constraint in spec.get("constraints", []):
            if "custom_constraint" in constraint:
                assert told["Parameters"][key]["CustomConstraint"] == constraint["custom_constraint"]
            if "length" in constraint:
                assert told["Parameters"][key]["MaxLength"] == constraint["length"]["max"]
            if "allowed_values" in constraint:
                assert told["Parameters"][key]["AllowedValues"] == constraint["allowed_values"]


def _is_refusal(answer: Any, kind: str, words: str) -> None:
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert (body["code"], body["title"], body["error"]["type"]) == (400, "Bad Request", kind)
    assert words in body["error"]["message"]
