"""What is explored: in `make test`, and with more time. The names are those of `docs/model.md`."""

from tests.model import admission, dispatch

QUICK: dict[str, dispatch.Setting | admission.Setting] = {
    "dispatch: no token, two dispatchers": dispatch.Setting(people=False, second_only_starts=True),
    "dispatch: no token, people": dispatch.Setting(dispatchers=1),
    "dispatch: token, people": dispatch.Setting(takes_token=True, dispatchers=1),
    "admission: queue": admission.Setting(),
    "admission: queue, two places": admission.Setting(limit=2),
    "admission: skip, two requests": admission.Setting(overlap="skip", catchup="latest", keys=2),
    "admission: allow, no catch-up": admission.Setting(overlap="allow", catchup="none"),
    "admission: cancel running": admission.Setting(overlap="cancel_running"),
}

LARGE: dict[str, dispatch.Setting | admission.Setting] = {
    "dispatch: no token, a second attempt, assume_lost": dispatch.Setting(
        dispatchers=1, attempts=2, people=False, policy="assume_lost"
    ),
    "dispatch: token, a second attempt": dispatch.Setting(takes_token=True, dispatchers=1, attempts=2, people=False),
    "dispatch: token, two dispatchers": dispatch.Setting(takes_token=True, people=False),
    "dispatch: no token, people, ask": dispatch.Setting(dispatchers=1, policy="ask", refuses=True),
    "admission: queue, two requests": admission.Setting(keys=2),
    "admission: queue, two places, two requests": admission.Setting(limit=2, keys=2),
    "admission: cancel running, two places": admission.Setting(overlap="cancel_running", limit=2),
}


def model_of(setting: dispatch.Setting | admission.Setting) -> dispatch.DispatchModel | admission.AdmissionModel:
    if isinstance(setting, dispatch.Setting):
        return dispatch.DispatchModel(setting)
    return admission.AdmissionModel(setting)
