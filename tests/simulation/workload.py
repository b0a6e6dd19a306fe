"""What a play is about: random workflows, how their work goes at its targets, and people who ask for things at bad moments."""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from shared.errors import InvalidInput, NotFound, Rejected
from shared.ids import JobName, RunId, WorkflowName, item_name, keyed_run, workflow_of
from shared.state.run import Doubted, Run
from shared.usecases.control import Control
from tests.simulation.deployment import HOST, Deployment
from tests.simulation.kernel import Kernel
from tests.simulation.models.model import Behaviour

SHARED_CLUSTER = "j-SHARED"
TAG = {"role": "etl"}
STEP = {
    "Name": "count",
    "ActionOnFailure": "CONTINUE",
    "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]},
}
CLUSTER = {
    "ReleaseLabel": "emr-7.5.0",
    "ServiceRole": "arn:aws:iam::1:role/emr",
    "JobFlowRole": "runfold",
    "Instances": {"InstanceCount": 1, "MasterInstanceType": "m5.xlarge"},
}
WAITING = WorkflowName("waiting")
WAITING_SHARE = 0.4
"""Of the plays, in which one workflow waits for another."""
FANNED_OUT_SHARE = 0.15
"""Of the jobs, which are done for several items."""
ITEMS_MAX = 6
TRIES_MAX = 12
"""Of one person to get something said."""
ACTS = (
    "run",
    "run",
    "run",
    "cancel",
    "cancel job",
    "rerun",
    "rerun job",
    "mark",
    "pause",
    "resume",
    "upload",
    "bad upload",
)


class Workload:
    """Made from the kernel's seed. `behaviour` is what targets ask."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._random = kernel.random
        self.decorate: Callable[[dict[str, Any]], None] = lambda document: None
        """What else is done to every document."""
        self.names = [WorkflowName(f"w{number}") for number in range(self._random.randint(1, 2))]
        self.documents: dict[WorkflowName, dict[str, Any]] = {name: self._document(name) for name in self.names}
        if self._random.random() < WAITING_SHARE:
            # Every hour beside the first, which it waits for.
            self.documents[self.names[0]]["schedule"] = {"cron": "0 * * * *", "catchup": "all"}
            self.names.append(WAITING)
            self.documents[WAITING] = self._waiting_document()
        self._behaviours: dict[tuple[str, str], Behaviour] = {}
        self._keys = 0
        self.asked: list[RunId] = []

    def behaviour(self, run: str, job: str, attempt: int) -> Behaviour:
        key = (workflow_of(RunId(run)), job)
        if key not in self._behaviours:
            self._behaviours[key] = self._behaviour()
        return self._behaviours[key]

    # --- documents --------------------------------------------------------------------------------------------------------

    def _document(self, name: str) -> dict[str, Any]:
        rng = self._random
        jobs: list[dict[str, Any]] = []
        for number in range(rng.randint(1, 5)):
            earlier = [job["name"] for job in jobs]
            after = rng.sample(earlier, rng.randint(0, min(2, len(earlier))))
            jobs.append(self._job(f"j{number}", after))
        document: dict[str, Any] = {"name": name, "owner": "data", "jobs": jobs}
        if rng.random() < 0.3:
            document["parallelism"] = rng.randint(1, 2)
        if rng.random() < 0.5:
            document["schedule"] = {
                "cron": rng.choice(("0 * * * *", "0 * * * *", "*/20 * * * *")),
                "catchup": rng.choice(("none", "latest", "all")),
            }
        if rng.random() < 0.4:
            document["overlap"] = rng.choice(("skip", "queue", "cancel_running"))
        if rng.random() < 0.4:
            document |= self._telling(scheduled="schedule" in document)
        self.decorate(document)
        return document

    def _telling(self, *, scheduled: bool) -> dict[str, Any]:
        """Lateness, and rules of whom to tell of what."""
        rng = self._random
        late = {"start_minutes": rng.choice((1, 5)), "expected_minutes": rng.choice((1, 10, 30))}
        words = ["started", "succeeded", "failed", "recovered", "late", "deadline", "doubt"]
        words += ["missed"] if scheduled else []
        rules = [
            {"on": rng.sample(words, rng.randint(1, 4)), "email": f"team{number}@example.com"}
            for number in range(rng.randint(1, 3))
        ]
        return {"late": late, "deadline": {"minutes": rng.choice((10, 45, 120))}, "notify": rules}

    def _waiting_document(self) -> dict[str, Any]:
        """As a whole, or a job of it, it waits for the first workflow, a job of that, or its own run of the hour before."""
        rng = self._random
        document = self._document(WAITING)
        document["schedule"] = {"cron": "0 * * * *", "catchup": rng.choice(("latest", "all"))}
        wait: dict[str, Any] = {"workflow": self.names[0]}
        wait |= rng.choice(
            ({}, {}, {"job": "j0"}, {"lag_instants": 1}, {"lag": "1 hour"}, {"latest_within_minutes": 90})
        )
        if "latest_within_minutes" not in wait:
            wait |= rng.choice(({}, {"until": "ended"}, {"on_failure": "go_on"}, {"on_failure": "wait"}))
        if rng.random() < 0.3 or wait.get("on_failure") == "wait":
            wait |= {"timeout_minutes": rng.choice((3, 40)), "on_timeout": rng.choice(("fail", "go_on"))}
        if rng.random() < 0.2:
            wait = {"workflow": WAITING, "lag_instants": 1, "until": "ended"}
        where = document if rng.random() < 0.6 else rng.choice(document["jobs"])
        where["waits_for"] = [wait]
        return document

    def _job(self, name: str, after: list[str]) -> dict[str, Any]:
        rng = self._random
        job: dict[str, Any] = {"name": name, "after": after, "type": rng.choice(("ecs", "ecs", "emr", "ssm"))}
        match job["type"]:
            case "ecs":
                job |= {"image": "registry/load:3", "command": ["load"], "spot": rng.random() < 0.3}
            case "ssm":
                job |= {"tag": TAG} if rng.random() < 0.3 else {"host": HOST}
                job["script"] = "/opt/etl/load.sh"
            case _ if rng.random() < 0.5:
                job |= {"cluster": CLUSTER, "steps": [STEP]}
            case _:
                job |= {"cluster_id": SHARED_CLUSTER, "steps": [STEP]}
        if after and rng.random() < 0.25:
            job["when"] = rng.choice(("all_done", "any_failed", "any_succeeded"))
        if rng.random() < 0.6:
            job["retry"] = {"attempts": rng.randint(1, 3), "delay_seconds": rng.choice((0, 5, 600, 1500))}
        if rng.random() < 0.3:
            job["timeouts"] = {
                rng.choice(("queue_minutes", "start_minutes", "run_minutes", "total_minutes")): rng.randint(2, 40)
            }
        if rng.random() < FANNED_OUT_SHARE:
            job["for_each"] = {"items": rng.choice(([], ["a"], ["a", "b", "a"], {"range": ITEMS_MAX}))}
            job["for_each"] |= rng.choice(({}, {"max_parallel": 1}, {"max_parallel": 2}))
            job["for_each"] |= rng.choice(({}, {"tolerate": {"count": 1}}, {"tolerate": {"percent": 50}}))
        if rng.random() < 0.4:
            job["doubt"] = {"policy": rng.choice(("wait", "assume_lost", "ask")), "after_minutes": rng.choice((5, 60))}
        return job

    def _behaviour(self) -> Behaviour:
        rng = self._random
        attempts = rng.randint(1, 3)
        return Behaviour(
            seconds=tuple(rng.choice((1.0, 20.0, 90.0, 600.0, 2400.0)) for _ in range(attempts)),
            exit_codes=tuple(0 if rng.random() < 0.75 else rng.choice((1, 3, 194)) for _ in range(attempts)),
            fates=tuple(
                rng.choice(("vanishes", "never starts", "hangs", "ignores stops")) if rng.random() < 0.15 else "ends"
                for _ in range(attempts)
            ),
        )

    # --- people -----------------------------------------------------------------------------------------------------------

    def begin(self, deployment: Deployment, hours: float) -> None:
        """Upload the documents, and let people ask for things for so long."""
        self.upload(deployment)
        for _ in range(self._random.randint(3, 10)):
            moment = self._random.uniform(30, hours * 3600)
            self.kernel.after(moment, lambda: self._act(deployment, self._random.choice(ACTS)))

    def upload(self, deployment: Deployment) -> None:
        """Have every document as it is now be registered."""
        for name in self.names:
            put = partial(deployment.upload, f"workflows/{name}.json", json.dumps(self.documents[name]).encode())
            if name == WAITING:
                # What it waits for must be registered first.
                self.kernel.after(120, put)
            else:
                put()

    def _act(self, deployment: Deployment, act: str) -> None:
        rng, name = self._random, self.kernel.pick(self.names)
        run = self.kernel.pick(self.asked) if self.asked else None
        document_job = self.kernel.pick(self.documents[name]["jobs"])
        job = JobName(document_job["name"])
        if "for_each" in document_job and rng.random() < 0.5:
            # Perhaps there is no such item, as people mistype.
            job = item_name(job, rng.randrange(ITEMS_MAX))
        match act:
            case "run":
                self._keys += 1
                key = f"k{self._keys}"
                later = self.kernel.now + timedelta(minutes=10) if rng.random() < 0.1 else None
                self.asked.append(keyed_run(name, key))
                ask: Callable[[Control], Any] = lambda control: control.request_run(  # noqa: E731
                    name, {}, by="ann", key=key, start_after=later
                )
                # A double click, now and then.
                for _ in range(2 if rng.random() < 0.2 else 1):
                    self.insist(deployment, ask)
            case "upload":
                self.documents[name] = self._waiting_document() if name == WAITING else self._document(name)
                deployment.upload(f"workflows/{name}.json", json.dumps(self.documents[name]).encode())
                if rng.random() < 0.3:
                    deployment.upload(f"workflows/{name}.json", json.dumps(self._document(name)).encode())
            case "bad upload":
                deployment.upload(f"workflows/{name}.json", json.dumps(self.documents[name]).encode()[:-7])
            case "pause":
                self.insist(deployment, lambda control: control.pause(name, by="bob", reason="maintenance"))
            case "resume":
                self.insist(deployment, lambda control: control.resume(name, by="bob"))
            case _ if run is not None:
                self._about(deployment, act, run, job)
            case _:
                pass

    def _about(self, deployment: Deployment, act: str, run: RunId, job: JobName) -> None:
        request = f"r{self._random.getrandbits(32):08x}"
        failed = self._random.random() < 0.5
        acts: dict[str, Callable[[Control], Any]] = {
            "cancel": lambda control: control.cancel(run, by="bob", reason="a mistake"),
            "cancel job": lambda control: control.cancel(run, by="bob", reason="a mistake", job=job),
            "rerun": lambda control: control.rerun(run, by="bob", failed=failed, request=request),
            "rerun job": lambda control: control.rerun(run, by="bob", jobs=[job], request=request),
            "mark": lambda control: control.mark(run, job, "failed", by="bob", reason="looked myself"),
        }
        self.insist(deployment, acts[act])

    def insist(self, deployment: Deployment, ask: Callable[[Control], Any], tries: int = 0) -> None:
        """Ask again until there is an answer, as people and programs do; what was asked must bear it."""

        def over(_: Any, error: BaseException | None) -> None:
            if error is None or isinstance(error, Rejected | NotFound | InvalidInput):
                return
            self.kernel.sometimes("a person had to ask again")
            if tries < TRIES_MAX:
                self.kernel.after(2.0 ** min(tries, 6), lambda: self.insist(deployment, ask, tries + 1))

        deployment.call(ask, over)

    # --- the end ----------------------------------------------------------------------------------------------------------

    def wind_up(self, deployment: Deployment, runs: dict[RunId, Run]) -> None:
        """Nothing new: whoever is in doubt is looked after by a person, and what goes on is cancelled."""
        for run, state in runs.items():
            if state.finished:
                continue
            for name, job in (*state.jobs.items(), *sorted(state.items.items())):
                if isinstance(job.phase, Doubted):
                    self.kernel.sometimes("a person resolved a doubt")
                    self.insist(
                        deployment,
                        lambda control, run=run, name=name: control.mark(run, name, "failed", by="bob", reason="gone"),  # type: ignore[misc]
                    )
            self.insist(deployment, lambda control, run=run: control.cancel(run, by="bob", reason="the end"))  # type: ignore[misc]
