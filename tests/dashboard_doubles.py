"""What the dashboard's tests share: keys, a mounted dashboard, jobs as RQ writes them."""

from __future__ import annotations

import hashlib
from typing import Any

import redis
from rq import Queue, Worker
from rq.executions import Execution
from rq.job import Job
from rq.results import Result
from rq.serializers import JSONSerializer
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.http.dashboard import Dashboard, routes
from app.keyring import ApiKey, Keyring, Scope
from app.queue.dashboard import build_wsgi
from app.queue.records.calls import PERFORM

OPERATOR_KEY = "rcd_operator"
OPERATOR = {"Authorization": f"Bearer {OPERATOR_KEY}"}
EVIL = "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>"
MAIL = {"to": ["ana@example.com"], "subject": "A secret subject", "text": "A secret body"}


def api_key(name: str, secret: str, *scopes: Scope) -> ApiKey:
    return ApiKey(name, frozenset(scopes), hashlib.sha256(secret.encode()).hexdigest())


KEYRING = Keyring(
    [api_key("ops", OPERATOR_KEY, "operate", "read"), api_key("shop", "rcd_shop", "submit")]
)


def mounted(
    redis_url: str,
    keyring: Keyring = KEYRING,
    *,
    secure_cookie: bool = False,
    local_key: ApiKey | None = None,
) -> Starlette:
    dashboard = Dashboard(
        build_wsgi(redis_url),
        keyring=keyring,
        session_secret=b"a secret of the tests, 32 bytes.",
        session_seconds=3600,
        secure_cookie=secure_cookie,
        local_key=local_key,
    )
    return Starlette(routes=routes(dashboard))


def client_of(app: Starlette, address: str = "192.0.2.7", **options: Any) -> TestClient:
    return TestClient(app, client=(address, 50000), follow_redirects=False, **options)


def operator_of(redis_url: str) -> TestClient:
    app = mounted(redis_url)
    return client_of(app, headers=OPERATOR, base_url="http://testserver/dashboard")


def jobs_url(queue: str, registry: str, per_page: object = 8, page: object = 1) -> str:
    return f"/0/data/jobs/{queue}/{registry}/{per_page}/asc/{page}.json"


def listed(dashboard: TestClient, queue: str, registry: str) -> list[dict[str, Any]]:
    answer = dashboard.get(jobs_url(queue, registry))
    assert answer.status_code == 200
    jobs: list[dict[str, Any]] = answer.json()["jobs"]
    return jobs


def everything_shown(dashboard: TestClient, job: Job) -> str:
    """Whatever any page says about the job."""
    paths = [f"/0/view/job/{job.id}", f"/0/data/job/{job.id}.json", "/0/data/workers.json"]
    paths += [jobs_url(job.origin, name) for name in ("queued", "started", "failed", "finished")]
    answers = [dashboard.get(path) for path in paths]
    assert {answer.status_code for answer in answers} == {200}
    return "\n".join(answer.text for answer in answers)


class Producer:
    """Stock RQ with the JSON serializer, writing jobs in each state."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def queue(self, name: str = "email") -> Queue:
        return Queue(name, connection=self.client, serializer=JSONSerializer)

    def queued(self, job_type: str = "email.send", queue: str = "email", **params: Any) -> Job:
        return self.queue(queue).enqueue(PERFORM, job_type, params or MAIL)

    def failed(self, message: str, job_type: str = "email.send", queue: str = "email") -> Job:
        job = self.queued(job_type, queue)
        job.failed_job_registry.add(job, ttl=3600)
        self._taken(job, "failed")
        self.client.expire(job.key, 3600)
        Result.create_failure(job, 3600, f"Traceback …\nValueError: {message}")
        return job

    def finished(self, result: Any, job_type: str = "email.send", queue: str = "email") -> Job:
        job = self._taken(self.queued(job_type, queue), "finished")
        job.finished_job_registry.add(job, ttl=3600)
        Result.create(job, Result.Type.SUCCESSFUL, 3600, return_value=result)
        return job

    def running(self, job_type: str = "email.send", worker: str = "box.1") -> Job:
        """A job that a registered worker is busy with."""
        job = self._taken(self.queued(job_type), "started")
        busy: Any = Worker([self.queue()], connection=self.client, name=worker)
        if not self.client.exists(busy.key):
            busy.register_birth()
        self.client.hset(busy.key, "state", "busy")
        with self.client.pipeline() as pipe:
            Execution.create(job, 600, pipe, worker_name=worker)
            pipe.execute()
        return job

    def _taken(self, job: Job, status: str) -> Job:
        self.queue(job.origin).remove(job)
        self.client.hset(job.key, "status", status)
        return job
