"""One joint run of all targets that measures an affinity, in a process apart: a crash fails a trial, not the study.

The process gets one message, ``measure`` (job, measure), and answers ``affinity`` (affinity) or ``failure``
(fail_kind, reason).
"""

from pathlib import Path

from taskgroup.affinity import Affinity
from taskgroup.errors import TrainingFailed
from taskgroup.execution.channel import Channel, Message, WorkerProcess
from taskgroup.execution.executor import Failure
from taskgroup.execution.worker import job_data
from taskgroup.training import GroupJob

# Steps from one probe to the next: a study has one joint run, so probes may be frequent.
PROBE_EVERY = 4
_FUNCTION = "taskgroup.execution.measure:serve"


def measured_affinity(job: GroupJob, measure: str, log: Path) -> Affinity:
    """Return the affinity of a job's targets, measured while a process apart trains them together.

    Parameters
    ----------
    job: the joint run.
    measure: see ``taskgroup.training.affinity_hooks.gradient_affinity``.
    log: the file that what the process prints is appended to.

    Raises TrainingFailed: the process could not train the job, or died.
    """
    worker = WorkerProcess(_FUNCTION, log=log)
    try:
        worker.start()
        worker.send("measure", job=job.to_dict(), measure=measure)
        answer = worker.receive()
        failure = _failure(worker, answer)
    finally:
        worker.close()
    if failure is not None:
        raise TrainingFailed(
            f"affinity '{measure}': the joint run of all targets failed: {failure.reason}",
            failure.kind,
        )
    return Affinity.from_json(answer["affinity"])


def _failure(worker: WorkerProcess, answer: Message | None) -> Failure | None:
    if answer is None:
        return worker.post_mortem()
    if answer["kind"] == "failure":
        return Failure(answer["fail_kind"], answer["reason"])
    return None


def serve(channel: Channel) -> None:
    """Answer one request; runs in a process of its own."""
    from taskgroup.training.affinity_hooks import gradient_affinity

    request = channel.receive()
    job = GroupJob.from_dict(request["job"])
    measure = request["measure"]
    with channel.signs_of_life():
        try:
            affinity = gradient_affinity(*job_data(job), job, measure, every=PROBE_EVERY)
        except TrainingFailed as error:
            channel.send("failure", fail_kind=error.fail_kind, reason=str(error))
            return
    channel.send("affinity", affinity=affinity.to_json())
