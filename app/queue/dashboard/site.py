"""The Flask application around rq-dashboard's blueprint: its pages and addresses, our answers.

rq-dashboard 0.9.0 on rq 3.0.0 brings the URL map, the templates, the scripts and the styles.
What is closed here, and what would let us go back to its own views:

- Its pages were blank: the application's `/static` shadowed the blueprint's. There is none
  now. (A static folder under a name of its own.)
- It connected anew for each request, without time-outs, to what the URL's instance number
  said, and was a traceback when Redis was away or the number unknown. (An option for the
  connection.)
- `workers.json` failed, pages wrote, `per_page` had no bound: see reading.py.
- HTML in job data ran, and inline scripts needed a lax policy: see pages.py.
- Bodies and addresses of mails stood in descriptions and results: see masking.py.
- `/requeue/<queue>` changed state by GET, and requeuing could lose a job: it is `retry` now.
- Deleting, emptying and compacting are refused: they leave no trail, and compacting is not
  atomic (ids are lost when it is interrupted). The API has acts of its own.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Response, abort, jsonify, render_template, request, url_for
from redis.exceptions import RedisError
from rq.job import JOB_ID_PATTERN
from rq.version import VERSION as RQ_VERSION
from rq_dashboard.version import VERSION as RQ_DASHBOARD_VERSION
from rq_dashboard.web import blueprint
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from app.queue.dashboard import masking, pages, reading
from app.queue.dashboard.connection import Connection
from app.queue.dashboard.paging import BadPageError, Page, parse_page

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

POLL_MILLISECONDS = 2500
BODY_BYTES = 64 * 1024
RETRY_AFTER_SECONDS = 2
NO_TIME = "unknown"
MEDIA_TYPES = {"js": "text/javascript", "css": "text/css"}
ACTS = ("requeue_job_view", "requeue_all", "delete_job_view", "empty_queue", "compact_queue")
# The key's name, which the HTTP side leaves in the ASGI scope for the page to show.
SIGNED_IN_AS = "recado.signed_in_as"
# The same for whoever acts, and by whatever means it came.
ACTING_AS = "recado.acting_as"


def build_wsgi(redis_url: str) -> WSGIApplication:
    """The dashboard on that Redis, which it first calls when a page is asked for.

    Whoever mounts it answers for access, for refusing cross-origin requests, and for the
    headers (`app.http.dashboard`).
    """
    app = Flask("app.queue.dashboard", static_folder=None)
    app.config.update(RQ_DASHBOARD_DISABLE_DELETE=True, MAX_CONTENT_LENGTH=BODY_BYTES)
    # A redirect to the tidy address would name a scheme and host that a proxy made up.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.jinja_loader = pages.template_loader()
    app.register_blueprint(blueprint)
    app.before_request_funcs[blueprint.name] = []  # it would connect anew each time
    site = _Site(Connection(redis_url), pages.assets())
    for name in ACTS:
        app.view_functions[f"{blueprint.name}.{name}"] = site.refuse
    for name in (
        "queues_overview", "workers_overview", "jobs_overview", "job_view", "list_queues",
        "list_workers", "list_jobs", "job_info", "requeue_job_view", "requeue_all",
    ):  # fmt: skip
        app.view_functions[f"{blueprint.name}.{name}"] = getattr(site, name)
    app.add_url_rule("/assets/<name>", "asset", site.asset)
    app.before_request(_check_request)
    app.context_processor(site.context)
    app.register_error_handler(HTTPException, _answer_error)
    app.register_error_handler(RedisError, _answer_redis_away)
    return cast("WSGIApplication", app)


class _Site:
    """The views, named as in rq_dashboard.web."""

    def __init__(self, connection: Connection, assets: dict[str, str]) -> None:
        self._connection = connection
        self._redis = connection.client
        self._assets = assets

    def context(self) -> dict[str, Any]:
        return {
            "rq_url_prefix": url_for("rq_dashboard.queues_overview"),
            "rq_version": RQ_VERSION,
            "rq_dashboard_version": RQ_DASHBOARD_VERSION,
            "redis_location": self._connection.location,
            "signed_in_as": request.environ.get("asgi.scope", {}).get(SIGNED_IN_AS),
        }

    def asset(self, name: str) -> Response:
        if name not in self._assets:
            abort(404)
        media_type = MEDIA_TYPES[name.rpartition(".")[2]]
        response = Response(self._assets[name], mimetype=media_type)
        response.cache_control.private = True
        response.cache_control.no_cache = True
        response.add_etag()
        response.make_conditional(request)
        return response

    def queues_overview(self, instance_number: int) -> str:
        self._redis.ping()
        return _page("queues")

    def workers_overview(self, instance_number: int) -> str:
        self._redis.ping()
        return _page("workers")

    def jobs_overview(
        self,
        *,
        instance_number: int,
        queue_name: str | None,
        registry_name: str,
        per_page: str | int,
        order: str,
        page: str | int,
    ) -> str:
        names = reading.queue_names(self._redis)
        if queue_name is None:  # the tab
            known = reading.DEFAULT_QUEUE in names or not names
            queue_name = reading.DEFAULT_QUEUE if known else names[0]
        asked = self._page_asked(queue_name, registry_name, per_page, order, page)
        shown: dict[str, Any] = {
            "registry_name": registry_name,
            "per_page": asked.per_page,
            "order": order,
            "page": asked.number,
        }
        return _page(
            "jobs",
            data=shown | {"queue.name": queue_name},
            queue={"name": queue_name},
            queues=[{"name": name} for name in names],
            **shown,
        )

    def job_view(self, instance_number: int, job_id: str) -> str:
        self._job(job_id)
        return _page("job", data={"id": job_id}, id=job_id)

    def list_queues(self, instance_number: int) -> Response:
        names = reading.queue_names(self._redis)
        rows = zip(names, reading.counts(self._redis, names), strict=True)
        return jsonify(queues=[_queue_row(name, counts) for name, counts in rows])

    def list_workers(self, instance_number: int) -> Response:
        return jsonify(workers=reading.workers(self._redis))

    def list_jobs(
        self,
        *,
        instance_number: int,
        queue_name: str,
        registry_name: str,
        per_page: str,
        order: str,
        page: str,
    ) -> Response:
        asked = self._page_asked(queue_name, registry_name, per_page, order, page)
        total, ids = reading.job_ids(
            self._redis, queue_name, registry_name, asked.offset, asked.per_page,
            newest_first=order == "dsc",
        )  # fmt: skip
        found = zip(ids, reading.jobs(self._redis, ids), strict=True)

        def page_url(number: int) -> str:
            return _jobs_url(queue_name, registry_name, asked.per_page, order, number)

        return jsonify(
            name=queue_name,
            registry_name=registry_name,
            jobs=[_job_row(job_id, job) for job_id, job in found],
            pagination=asked.links(total, page_url),
        )

    def job_info(self, instance_number: int, job_id: str) -> Response:
        job = self._job(job_id)
        facts: dict[str, Any] = {
            "id": job.id,
            "origin": job.fields.get("origin", ""),
            "status": job.fields.get("status", "unknown"),
            "description": job.label,
            "result": job.shown_result,
            "exc_info": job.traceback,
            "metadata": reading.metadata(self._redis, job_id),
        }
        for name in ("created_at", "enqueued_at", "started_at", "ended_at"):
            facts[name] = job.time(name)
        facts["created_at"] = facts["created_at"] or NO_TIME
        parents = job.parent_ids[: masking.SHOWN_ITEMS]
        if parents:
            alive = reading.exist(self._redis, parents)
            facts["depends_on"] = parents
            facts["depends_on_status"] = ["active" if each else "expired" for each in alive]
        return jsonify(facts)

    def requeue_job_view(self, job_id: str) -> Response:
        self._job(job_id)
        if not self._connection.requeue([job_id], _acting_key(), f"/v1/jobs/{job_id}"):
            abort(409, "The job is not in the failed registry, or only rq requeue can move it.")
        return jsonify(status="OK")

    def requeue_all(self, queue_name: str) -> Response:
        if not reading.has_queue(self._redis, queue_name):
            abort(404, "There is no such queue.")
        ids = self._connection.failed_ids(queue_name)
        return jsonify(
            status="OK",
            count=self._connection.requeue(ids, _acting_key(), f"/v1/queues/{queue_name}"),
        )

    def refuse(self, **_: Any) -> Response:
        abort(403, "Deleting, emptying and compacting are done through the API.")

    def _job(self, job_id: str) -> reading.StoredJob:
        known = JOB_ID_PATTERN.fullmatch(job_id) and reading.jobs(self._redis, [job_id])[0]
        if not known:
            abort(404, "There is no such job, or its record has expired.")
        return known

    def _page_asked(
        self, queue: str, registry: str, per_page: str | int, order: str, page: str | int
    ) -> Page:
        if registry not in reading.REGISTRY_KEYS or order not in {"asc", "dsc"}:
            abort(404, "There is no such list.")
        if not reading.has_queue(self._redis, queue):
            abort(404, "There is no such queue.")
        try:
            return parse_page(str(page), str(per_page))
        except BadPageError as error:
            abort(400, str(error))


def _acting_key() -> str:
    return str(request.environ.get("asgi.scope", {}).get(ACTING_AS, ""))


def _check_request() -> None:
    if request.view_args and request.view_args.get("instance_number"):
        abort(404, "There is one Redis here, number 0.")
    name = (request.endpoint or "").rpartition(".")[2]
    if name in ACTS and request.method not in {"POST", "OPTIONS"}:
        raise MethodNotAllowed(["OPTIONS", "POST"])


def _page(name: str, data: dict[str, Any] | None = None, **context: Any) -> str:
    carried = {
        "rq_url_prefix": url_for("rq_dashboard.queues_overview"),
        "current_instance": 0,
        "poll_interval": POLL_MILLISECONDS,
    }
    return render_template(
        f"rq_dashboard/{name}.html",
        title=name.capitalize(),
        script=name,
        active_tab="jobs" if name == "job" else name,
        page_data=carried | (data if data is not None else {}),
        **context,
    )


def _jobs_url(queue: str, registry: str, per_page: int, order: str, page: int) -> str:
    return url_for(
        "rq_dashboard.jobs_overview",
        instance_number=0,
        queue_name=queue,
        registry_name=registry,
        per_page=per_page,
        order=order,
        page=page,
    )


def _queue_row(name: str, counts: dict[str, int]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "count": counts["queued"]}
    for registry, count in counts.items():
        row[f"{registry}_url"] = _jobs_url(name, registry, 8, "asc", 1)
        if registry != "queued":
            row[f"{registry}_job_registry_count"] = count
    return row


def _job_row(job_id: str, job: reading.StoredJob | None) -> dict[str, Any]:
    """Times that are not known are left out: the scripts would take null for just now."""
    if job is None:
        gone = "(its record is gone)"
        return {"id": job_id, "description": gone, "exc_info": None, "created_at": NO_TIME}
    times = {name: job.time(name) for name in ("started_at", "ended_at")}
    return {
        "id": job_id,
        "description": job.label,
        "exc_info": job.traceback,
        "created_at": job.time("created_at") or NO_TIME,
    } | {name: at for name, at in times.items() if at is not None}


def _answer_error(error: HTTPException) -> Response:
    code = error.code if error.code is not None else 500
    detail = error.description if error.description is not None else ""
    response = _message(code, detail if code < 500 else "Something went wrong; the log says what.")
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def _answer_redis_away(_: RedisError) -> Response:
    response = _message(503, "Redis does not answer. Nothing is lost by waiting; try again.")
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _message(code: int, detail: str) -> Response:
    """A page for people, JSON for the page's scripts."""
    title = HTTPStatus(code).phrase
    if request.path.endswith(".json") or request.method == "POST":
        response = jsonify(status="ERROR", title=title, detail=detail)
    else:
        response = Response(render_template("message.html", title=title, detail=detail))
    response.status_code = code
    return response
