"""Reading a document: whatever was written, the answer is a Workflow or every problem at once."""

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInput, Problem
from shared.ids import digest_of
from shared.workflow.checks import RUN_JOB_FLOW_FIELDS
from shared.workflow.document import Workflow
from shared.workflow.reading import canonical, load, read
from shared.workflow.syntax import PROBLEMS_MAX, SIZE_MAX, parse

ECS: dict[str, Any] = {"name": "load", "type": "ecs", "image": "registry/load:3"}
SSM: dict[str, Any] = {"name": "extract", "type": "ssm", "host": "warehouse", "script": "/opt/extract.sh"}
STEP: dict[str, Any] = {
    "Name": "count",
    "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["spark-submit", "x.py"]},
}
EMR: dict[str, Any] = {"name": "transform", "type": "emr", "cluster": {"ReleaseLabel": "emr-7.5.0"}, "steps": [STEP]}


def document(*jobs: Any, **fields: Any) -> dict[str, Any]:
    return {"name": "nightly", "jobs": list(jobs or (ECS,)), **fields}


def written(*jobs: Any, **fields: Any) -> Workflow:
    return read(json.dumps(document(*jobs, **fields)).encode())


def problems_of(data: bytes, name: str = "document") -> tuple[Problem, ...]:
    with pytest.raises(InvalidInput) as caught:
        read(data, name=name)
    return caught.value.problems


def refused(*jobs: Any, **fields: Any) -> dict[str, str]:
    """Path to message and hint of every problem with a document."""
    problems = problems_of(json.dumps(document(*jobs, **fields)).encode())
    return {problem.path: f"{problem.message} ({problem.hint})" for problem in problems}


# -- text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        pytest.param(b" " * 50_000_000, "", "50,000,000 bytes", id="fault 51: 50 MB"),
        pytest.param(b'{"a":' * 10_000, "", "nested more than 64", id="fault 51: JSON nested 10,000 deep"),
        pytest.param(b"a: " + b"[" * 10_000, "line 1", "nested more than 64", id="fault 51: YAML nested 10,000 deep"),
        pytest.param(b"[" * SIZE_MAX, "", "nested more than 64", id="fault 51: brackets only"),
        pytest.param(b"- " * (SIZE_MAX // 2), "line 1", "nested more than 64", id="fault 51: dashes only"),
        pytest.param(b'{"a": NaN}', "a", "not a finite number", id="fault 51: NaN"),
        pytest.param(b'{"a": [-Infinity]}', "a[0]", "not a finite number", id="fault 51: Infinity"),
        pytest.param(b'{"a": 1e999}', "a", "not a finite number", id="fault 51: a float beyond bounds"),
        pytest.param(b"a: .nan", "a", "not a finite number", id="fault 51: NaN in YAML"),
        pytest.param(b'{"a": ' + b"9" * 100_000 + b"}", "a", "64 bits", id="a huge integer"),
        pytest.param(b'{"a": 1,\n "a": 2}', "a", "line 1, column 2 and at line 2, column 2", id="fault 51: a key twice"),
        pytest.param(b"b:\n- c: 1\n  c: 2", "b[0].c", "line 2, column 3 and at line 3, column 3", id="fault 51: twice in YAML"),
        pytest.param(b"{" + b'"a":1,' * 1_000_000 + b'"a":1}', "a", "given twice", id="fault 51: a key a million times"),
        pytest.param(b"name: \xff", "line 1, column 7", "not UTF-8", id="fault 51: invalid UTF-8"),
        pytest.param('{"name": "x"}'.encode("utf-16"), "", "UTF-16", id="fault 51: another encoding"),
        pytest.param(b"name: a\nx: \0", "line 2, column 4", "NUL", id="a NUL byte"),
        pytest.param(b'{"a": "\\u0000"}', "a", "NUL", id="a NUL written as an escape"),
        pytest.param(b'{"a": "\\ud800"}', "a", "surrogate", id="half a surrogate pair"),
        pytest.param(b'{"name": "x", ', "line 1, column 15", "cut off", id="fault 52: a truncated upload"),
        pytest.param(b'{"a": 1,}', "line 1, column 9", "comma", id="a comma too many"),
        pytest.param(b"a: [b", "line 2, column 1", "not YAML", id="unfinished YAML"),
        pytest.param(b"a: 1\n---\nb: 2", "line 2, column 1", "second YAML document", id="two YAML documents"),
        pytest.param(b"a: !!python/object:os.system x", "line 1, column 4", "tag", id="a YAML tag"),
        pytest.param(b"a: &a [*a]", "line 1, column 8", "part of", id="an alias of what it is in"),
        pytest.param(b"a: *b", "line 1, column 4", "refers to nothing", id="an alias of nothing"),
        pytest.param(b"true: x", "true", "not text", id="a key that is not text"),
        pytest.param(b"a: &a {b: c}\nd:\n  <<: *a", 'd["<<"]', "merge key", id="a merge key"),
        pytest.param(b"[]", "", "a list, not an object", id="a list"),
        pytest.param(b"hello", "", "text, not an object", id="a text"),
        pytest.param(b"", "", "empty", id="nothing"),
        pytest.param(b"# only a comment", "", "empty", id="a comment"),
    ],
)  # fmt: skip
def test_text_that_cannot_be_a_document_is_refused_quickly_with_its_place(text: bytes, place: str, says: str) -> None:
    began = time.process_time()
    problem = problems_of(text)[0]
    assert time.process_time() - began < 2.0
    assert problem.path.startswith(place), problem
    assert says in f"{problem.message} {problem.hint}"


def test_aliases_that_grow_without_end_are_refused_before_they_do() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "aliases" in problems_of("\n".join(lines).encode())[0].message
    long = "a: &a " + "x" * 100_000 + "\nb: [" + ", ".join(["*a"] * 1_000) + "]"
    assert "aliases" in problems_of(long.encode())[0].message


def test_yaml_means_what_yaml_1_2_says() -> None:
    text = b"on: no\nday: 2024-01-01\ntime: 12:30:45\noctal: 0o17\nten: 010\nreal: 1e3\nbig: 1_000\nnothing:\nyes: true\nq: '1'"
    assert parse(text, name="x.yaml") == {
        "on": "no", "day": "2024-01-01", "time": "12:30:45", "octal": 15, "ten": 10, "real": 1000.0, "big": "1_000",
        "nothing": None, "yes": True, "q": "1",
    }  # fmt: skip


def test_a_byte_order_mark_is_overlooked() -> None:
    """Fault 51."""
    assert read(b"\xef\xbb\xbf" + json.dumps(document()).encode()) == written()


def test_aliases_within_bounds_are_what_they_stand_for() -> None:
    text = b"name: w\njobs:\n- &a {name: a, type: ecs, image: i, environment: &e {A: b}}\n- {name: b, type: ecs, image: i, environment: *e}"
    assert read(text).jobs[1].environment == {"A": "b"}


# -- fields -------------------------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once_each_with_its_path_and_the_nearest_name() -> None:
    found = refused(
        {**ECS, "retires": 3, "cpu": True, "launch": "fargte"},
        {**SSM, "after": ["laod"], "depends_on": ["load"]},
        {"name": "x", "type": "emmr"},
        7,
        shedule={},
    )
    assert "did you mean `retry`?" in found["jobs[0].retires"]
    assert "whole number" in found["jobs[0].cpu"]
    assert "did you mean `fargate`?" in found["jobs[0].launch"]
    assert "did you mean `load`?" in found["jobs[1].after[0]"]
    assert "did you mean `after`?" in found["jobs[1].depends_on"]
    assert "did you mean `emr`?" in found["jobs[2].type"]
    assert "object" in found["jobs[3]"]
    assert "did you mean `schedule`?" in found["shedule"]


def test_what_else_is_wrong_with_a_job_is_told_together_with_its_wrong_fields() -> None:
    wrong = {
        "name": "a",
        "type": "ssm",
        "host": "h",
        "comands": ["x"],
        "priority": "high",
        "environment": {"RUNFOLD_X": "1"},
        "outputs": [{"path": "../x"}, {"path": ""}],
        "inputs": [
            {"path": "i", "content": "", "url": "http://x"},
            {"path": "j", "job": "nobody"},
            {"path": "/k", "url": "x"},
        ],
    }
    told = {problem.path for problem in problems_of(json.dumps({"name": "w", "jobs": [wrong]}).encode())}
    # Nothing is said of `commands`, which `comands` was meant to be.
    assert told == {
        "jobs[0].comands",
        "jobs[0].priority",
        "jobs[0].environment.RUNFOLD_X",
        "jobs[0].outputs[0].path",
        "jobs[0].outputs[1].path",
        "jobs[0].inputs[0]",
        "jobs[0].inputs[1].job",
        "jobs[0].inputs[2].path",
        "jobs[0].inputs[2].url",
    }


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"cpu": "1", "memory": 77}, {"jobs[0].cpu"}),
        ({"cpu": 3, "priority": "high"}, {"jobs[0].cpu", "jobs[0].priority"}),
        ({"type": "emr", "cluster": 5}, {"jobs[0].image", "jobs[0].cluster"}),
        ({"type": "ssm", "host": 5}, {"jobs[0].image", "jobs[0].host"}),
        ({"inputs": [{"path": "x", "url": 5}]}, {"jobs[0].inputs[0].url"}),
        ({"doubt": "ask"}, {"jobs[0].doubt"}),
    ],
)
def test_nothing_is_told_that_may_follow_from_a_field_that_is_wrong(fields: dict[str, Any], told: set[str]) -> None:
    job = {"name": "a", "type": "ecs", "image": "x", **fields}
    assert {problem.path for problem in problems_of(json.dumps({"name": "w", "jobs": [job]}).encode())} == told


def test_a_number_where_text_belongs_is_told_to_be_quoted() -> None:
    assert '"8080"' in refused({**ECS, "command": [8080]})["jobs[0].command[0]"]


@pytest.mark.parametrize("name", ["../etc", 'a"b', "a\nb", "a b", "", "a/b", "a..b", "x" * 65, "-a", "a\n", "a@b"])
def test_names_that_could_be_paths_or_break_lines_are_refused(name: str) -> None:
    """fault 51"""
    assert "64 letters" in refused({**ECS, "name": name})["jobs[0].name"]
    assert "64 letters" in refused(name=name)["name"]


def test_only_a_hundred_problems_are_listed_and_the_others_counted() -> None:
    problems = problems_of(json.dumps(document(*[{**ECS, "name": f"j{i}", "x": 1} for i in range(1000)])).encode())
    assert len(problems) == PROBLEMS_MAX + 1
    assert "900 more" in problems[-1].message


# -- graph --------------------------------------------------------------------------------------------------------


def chain(*edges: tuple[str, list[str]]) -> list[dict[str, Any]]:
    return [{**ECS, "name": name, "after": after} for name, after in edges]


def test_a_cycle_is_shown_as_the_cycle() -> None:
    """fault 51"""
    found = refused(*chain(("a", ["b"]), ("b", ["c"]), ("c", ["a"]), ("d", ["c"])))
    assert len(found) == 1
    assert "a -> b -> c -> a" in found["jobs[0].after"]


def test_independent_cycles_are_told_apart_and_self_dependency_is_its_own() -> None:
    """fault 51"""
    found = refused(*chain(("a", ["b"]), ("b", ["a"]), ("c", ["d"]), ("d", ["c"]), ("e", ["e"])))
    assert "a -> b -> a" in found["jobs[0].after"]
    assert "c -> d -> c" in found["jobs[2].after"]
    assert "itself" in found["jobs[4].after[0]"]


def test_what_depends_on_a_job_that_is_not_there_is_told_with_the_nearest_name() -> None:
    """fault 51"""
    found = refused(*chain(("extract", []), ("load", ["extrct"]), ("end", ["nowhere-near"])))
    assert "extract" in found["jobs[1].after[0]"]
    assert set(found) == {"jobs[1].after[0]", "jobs[2].after[0]"}


def test_repeated_names_and_names_that_differ_only_in_case_are_refused() -> None:
    """fault 51"""
    found = refused(*chain(("a", []), ("a", []), ("A", [])))
    assert "already" in found["jobs[1].name"]
    assert "upper and lower case" in found["jobs[2].name"]


@pytest.mark.parametrize("closed", [False, True])
def test_ten_thousand_jobs_are_read_in_moments(closed: bool) -> None:
    """fault 51"""
    jobs = chain(*((f"job-{i}", [f"job-{i - 1}"] if i else (["job-9999"] if closed else [])) for i in range(10_000)))
    data = json.dumps(document(*jobs)).encode()
    began = time.process_time()
    if closed:
        assert "9988 more" in problems_of(data)[0].message
    else:
        assert len(read(data).jobs) == 10_000
    assert time.process_time() - began < 5


def test_ten_thousand_misspelt_names_do_not_mean_a_hundred_million_comparisons() -> None:
    jobs = chain(*((f"job-{i}", [f"jbo-{i}x"]) for i in range(10_000)))
    began = time.process_time()
    assert "9,900 more" in problems_of(json.dumps(document(*jobs)).encode())[-1].message
    assert time.process_time() - began < 5


# -- rules between fields -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "path", "says"),
    [
        ({**ECS, "cpu": 300}, "jobs[0].cpu", "256, 512"),
        ({**ECS, "cpu": 1024, "memory": 512}, "jobs[0].memory", "2048 to 8192 in steps of 1024"),
        ({**ECS, "memory": 1536}, "jobs[0].memory", "512, 1024 or 2048"),
        ({**ECS, "gpu": 1}, "jobs[0].gpu", "ec2"),
        ({**ECS, "launch": "ec2", "ephemeral_storage_gib": 30}, "jobs[0].ephemeral_storage_gib", "Fargate only"),
        ({**EMR, "cluster_id": "j-1"}, "jobs[0]", "both"),
        ({**EMR, "cluster": None}, "jobs[0]", "neither"),
        ({**EMR, "steps": []}, "jobs[0].steps", "empty"),
        ({**EMR, "cluster": {"ReleaseLable": "x"}}, "jobs[0].cluster.ReleaseLable", "did you mean `ReleaseLabel`?"),
        ({**EMR, "cluster": {"Steps": [STEP]}}, "jobs[0].cluster.Steps", "keep one"),
        ({**EMR, "steps": None, "cluster": {"Steps": [{"Nmae": "x"}]}}, "jobs[0].cluster.Steps[0].Nmae", "did you mean `Name`?"),
        ({**SSM, "hosts": ["b"]}, "jobs[0]", "host and hosts"),
        ({"name": "x", "type": "ssm", "script": "/x"}, "jobs[0]", "none"),
        ({**SSM, "commands": ["true"]}, "jobs[0]", "both"),
        ({**SSM, "script": None, "commands": ["echo {{ params.x }}"]}, "jobs[0].commands[0]", "$1"),
        ({**SSM, "args": ["{{ssm:/prod/key}}"]}, "jobs[0].args[0]", "Systems Manager"),
        ({**ECS, "environment": {"RUNFOLD_RUN": "x"}}, "jobs[0].environment.RUNFOLD_RUN", "set by Runfold"),
        ({**ECS, "environment": {"A": "x"}, "secrets": {"A": "env:A"}}, "jobs[0].environment.A", "secret as well"),
        ({**ECS, "environment": {"1A": "x"}}, 'jobs[0].environment["1A"]', "environment variable"),
        ({**ECS, "outputs": [{"path": "../x"}]}, "jobs[0].outputs[0].path", "leads out"),
        ({**ECS, "outputs": [{"path": "/x"}]}, "jobs[0].outputs[0].path", "absolute"),
        ({**ECS, "outputs": [{"path": "a//x"}]}, "jobs[0].outputs[0].path", "shortest form"),
        ({**ECS, "outputs": [{"path": "a\\x"}]}, "jobs[0].outputs[0].path", "backslash"),
        ({**ECS, "outputs": [{"path": "a\nx"}]}, "jobs[0].outputs[0].path", "control"),
        ({**ECS, "outputs": [{"path": "outputs.json"}]}, "jobs[0].outputs[0].path", "every job"),
        ({**ECS, "outputs": [{"path": "a"}, {"path": "a"}]}, "jobs[0].outputs[1].path", "already"),
        ({**ECS, "inputs": [{"path": "a", "content": "", "url": "http://x/"}]}, "jobs[0].inputs[0]", "several sources"),
        ({**ECS, "inputs": [{"path": "a", "content": "", "file": "b"}]}, "jobs[0].inputs[0].file", "no `job`"),
        ({**ECS, "inputs": [{"path": "a"}]}, "jobs[0].inputs[0]", "no upstream job"),
        ({**ECS, "inputs": [{"path": "a", "job": "load"}]}, "jobs[0].inputs[0].job", "not upstream"),
        ({**ECS, "timeout_minutes": 1, "timeouts": {"run_minutes": 2}}, "jobs[0].timeout_minutes", "keep one"),
    ],
)  # fmt: skip
def test_fields_that_do_not_go_together_are_told_with_what_would(job: dict[str, Any], path: str, says: str) -> None:
    found = refused({key: value for key, value in job.items() if value is not None})
    assert says in found[path], found


def test_a_secret_written_out_is_refused_and_never_repeated() -> None:
    """I13"""
    problem = problems_of(json.dumps(document({**ECS, "secrets": {"PGPASSWORD": "hunter2-hunter2"}})).encode())[0]
    assert problem.path == "jobs[0].secrets.PGPASSWORD"
    assert "hunter2" not in str(problem)
    assert "hunter2" not in str(problems_of(json.dumps(document({**ECS, "secrets": {"P": ["hunter2"]}})).encode()))


def test_inputs_find_the_one_upstream_job_that_writes_them() -> None:
    one = {**ECS, "name": "one", "outputs": [{"path": "a.csv"}]}
    two = {**ECS, "name": "two", "after": ["one"], "outputs": [{"path": "a.csv"}]}
    reader = {**ECS, "name": "three", "after": ["two"], "inputs": [{"path": "a.csv"}]}
    written(one, {**reader, "after": ["one"]})
    assert "one or two" in refused(one, two, reader)["jobs[2].inputs[0]"]
    written(one, two, {**reader, "inputs": [{"path": "b.csv", "job": "one", "file": "a.csv"}]})
    wrong = refused(one, {**reader, "after": ["one"], "inputs": [{"path": "b.csv", "job": "one", "file": "a.cvs"}]})
    assert "did you mean `a.csv`?" in wrong["jobs[1].inputs[0].file"]
    assert "neither waits" in refused(one, {**two, "after": []})["jobs[1].outputs[0].path"]


def test_the_fields_of_run_job_flow_are_those_of_the_installed_model() -> None:
    from botocore.loaders import Loader

    shape = Loader().load_service_model("emr", "service-2")["shapes"]["RunJobFlowInput"]
    assert sorted(shape["members"]) == sorted(RUN_JOB_FLOW_FIELDS)


# -- defaults -----------------------------------------------------------------------------------------------------


def test_defaults_are_resolved_into_the_jobs_and_what_a_job_says_wins() -> None:
    workflow = written(
        {"name": "a", "type": "ecs", "retry": {"delay_seconds": 1}, "environment": {"S": "own"}, "timeouts": {"queue_minutes": 3}},
        {**SSM, "host": "other"},
        defaults={
            "retry": {"attempts": 3},
            "timeout_minutes": 5,
            "environment": {"A": "0", "B": "2"},
            "secrets": {"S": "env:S"},
            "ecs": {"image": "i", "environment": {"A": "1"}},
            "ssm": {"tag": {"role": "etl"}},
        },
    )  # fmt: skip
    first, second = workflow.jobs
    assert workflow.defaults is None
    assert (first.retry.attempts, first.retry.delay_seconds) == (3, 1)
    assert (first.timeouts.run_minutes, first.timeouts.queue_minutes, first.timeout_minutes) == (5, 3, None)
    assert first.environment == {"A": "1", "B": "2", "S": "own"}
    assert first.secrets == {}
    assert second.secrets == {"S": "env:S"}
    assert second.type == "ssm"
    assert second.tag is None


def test_problems_of_defaults_are_told_once_under_defaults() -> None:
    jobs = [{**ECS, "name": f"j{i}"} for i in range(100)]
    found = refused(*jobs, defaults={"retry": {"attempts": "x"}, "ecs": {"cpuu": 1, "memory": "a", "name": "n"}})
    assert set(found) == {
        "defaults.retry.attempts", "defaults.ecs.cpuu", "defaults.ecs.memory", "defaults.ecs.name",
    }  # fmt: skip


def test_defaults_that_would_grow_beyond_bounds_are_refused() -> None:
    jobs = [{**ECS, "name": f"j{i}"} for i in range(5_000)]
    found = refused(*jobs, defaults={"environment": {f"V{i}": "x" * 16_000 for i in range(10)}})
    assert "5,000 jobs" in found["defaults"]


# -- identity -----------------------------------------------------------------------------------------------------


def test_equal_texts_in_json_and_yaml_are_the_same_version() -> None:
    plain = document(
        SSM, {**EMR, "after": ["extract"]}, {**ECS, "after": ["transform"]},
        schedule={"cron": "0 2 * * *", "start": "2026-01-01", "timezone": "Europe/Berlin"},
        parameters={"type": "object", "properties": {"a": {"default": None}, "b": {"type": "number", "default": 1.0}}},
    )  # fmt: skip
    one = read(json.dumps(plain).encode())
    two = read(yaml.safe_dump(plain).encode(), name="x.yaml")
    assert one == two
    assert digest_of(canonical(one)) == digest_of(canonical(two))
    assert load(canonical(one)) == one
    assert canonical(load(canonical(one))) == canonical(one)


def test_steps_written_inside_the_cluster_are_the_steps() -> None:
    inside = {"name": "transform", "type": "emr", "cluster": {**EMR["cluster"], "Steps": [STEP]}}
    assert written(inside) == written(EMR)


def test_a_stored_version_of_a_newer_release_is_refused_clearly() -> None:
    with pytest.raises(InvalidInput, match="not a field"):
        load(canonical(written())[:-1] + b',"mystery":[]}')


# -- anything -----------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("load"),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(sorted({*ECS, *SSM, *EMR, "after", "retry", "defaults", "jobs"})), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def workflow_or_refused(data: bytes) -> None:
    problems: tuple[Problem, ...] | None = None
    try:
        workflow = read(data)
        assert load(canonical(workflow)) == workflow
    except InvalidInput as refusal:
        problems = refusal.problems
    if problems is not None:
        assert 0 < len(problems) <= PROBLEMS_MAX + 1
        assert all(problem.message for problem in problems)


@settings(max_examples=150, deadline=2000)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_arbitrary_bytes_are_a_workflow_or_refused(data: bytes) -> None:
    workflow_or_refused(data)


@settings(max_examples=150, deadline=2000)
@given(values)
def test_arbitrary_json_is_a_workflow_or_refused(value: Any) -> None:
    workflow_or_refused(json.dumps(value).encode())


@settings(max_examples=200, deadline=2000)
@given(st.data())
def test_a_document_with_anything_put_anywhere_is_a_workflow_or_refused(data: st.DataObject) -> None:
    plain: Any = json.loads(
        json.dumps(
            document(
                SSM, {**EMR, "after": ["extract"]}, {**ECS, "after": ["transform"], "inputs": [{"path": "a", "content": "x"}]},
                defaults={"retry": {"attempts": 2}, "ecs": {"cpu": 512, "memory": 1024}}, schedule={"cron": "0 2 * * *"},
                parameters={"type": "object", "properties": {"a": {"type": "string"}}},
            )
        )
    )  # fmt: skip
    holder = plain
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = data.draw(st.sampled_from(keys)) if keys else None
        if key is None:
            break
        if isinstance(holder[key], dict | list) and holder[key] and data.draw(st.booleans()):
            holder = holder[key]
            continue
        holder[key] = data.draw(values)
        break
    workflow_or_refused(json.dumps(plain).encode())
