"""Each condition that the heart rests on has a test that fails without it.

The condition is taken out of a copy of the program, and the test named beside it must fail
there. What the conditions are for is told where they stand in `app/queue/scripts`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import ROOT

pytestmark = pytest.mark.slow

_SCRIPTS = "app/queue/scripts"


@dataclass(frozen=True)
class Condition:
    """`text` of `file` is replaced by `without`; then `test`, below `tests`, must fail."""

    claim: str
    file: str
    text: str
    without: str
    test: str


def _lua(claim: str, name: str, text: str, without: str, test: str) -> Condition:
    return Condition(claim, f"{_SCRIPTS}/{name}.lua", text, without, test)


def _python(claim: str, name: str, text: str, without: str, test: str) -> Condition:
    return Condition(claim, f"app/queue/{name}.py", text, without, test)


# fmt: off
CONDITIONS = [
    # Beside stock tools
    _lua("an execution's limits reach beyond what stock tools clean", "lib",
         "local HORIZON = 3600", "local HORIZON = 0",
         "test_heart_worker.py::test_time_limits_of_an_execution_reach_far_beyond_the_time_out"),
    _lua("stock maintenance with a clock ahead leaves running jobs alone", "lib",
         "local HORIZON = 3600", "local HORIZON = 0",
         "test_heart_stock.py::test_stock_tools_whose_clock_is_ahead_leave_running_jobs_alone"),
    _lua("promote leaves a queue to the stock scheduler that holds its lock", "promote",
         " and not has(P .. ':scheduler-lock:' .. q)", "",
         "test_heart_promote.py::test_queue_that_a_stock_scheduler_works_on_is_left_to_it"),
    _lua("a requeued job does not vanish while it runs", "claim",
         "if call('PERSIST', key) == 1 then", "if false then",
         "test_heart_worker.py::test_running_job_has_no_time_to_live"),
    _lua("a canceled job leaves its queue, as stock workers do not look at the status", "ending",
         "call('LREM', queue_key(q), 0, id)", "call('PING')",
         "test_heart_options.py::test_cancel_before_it_runs"),
    _lua("outcome of a job that stock code canceled is late", "end",
         "owned = call('ZREM', P .. ':wip:' .. q, composite) == 1",
         "call('ZREM', P .. ':wip:' .. q, composite) owned = true",
         "test_heart_end.py::test_outcome_of_a_job_that_stock_code_canceled_is_late"),
    _lua("a stock job gives back its slot", "ending",
         "leave_slot(id, ", "local _ = (",
         "test_heart_stock.py::test_stock_jobs_of_a_rate_limit_run_one_after_the_other"),
    _lua("nothing is taken while RQ is suspended", "claim",
         "if has(P .. ':suspended')", "if false",
         "test_heart_worker.py::test_suspended_and_paused_queues_are_left_alone"),
    _python("stop commands of stock tools arrive", "keys",
            "{PREFIX}:pubsub:{worker_name}", "{PREFIX}:pubsub:else:{worker_name}",
            "test_contract_producers.py::test_stock_stop_command_stops_a_running_job"),
    _python("a function that is no job type is not run", "claimed",
            "if function != PERFORM or instance is not None:", "if instance is not None:",
            "test_contract_broken.py::test_function_that_is_no_job_type_never_runs"),
    _python("what we do not do for stock jobs is refused", "claimed",
            "if claimed.fields.get(field) not in {None, b\"\", b\"0\", b\"[]\"}:", "if False:",
            "test_contract_broken.py"
            "::test_what_our_worker_does_not_do_for_stock_jobs_it_refuses_loudly"),
    _lua("stock tools read a retried run as one", "end",
         "add_result(id, 4,", "add_result(id, 2,",
         "test_contract_rq.py::test_stock_job_reads_how_ours_ended"),
    # Claims
    _lua("a stale entry runs nothing", "claim",
         "if (not waiting and status ~= 'started') or live_execution(id) then",
         "if live_execution(id) then",
         "test_heart_worker.py::test_stale_entry_is_dropped_and_its_job_left_alone"),
    _lua("a doubled entry runs nothing twice", "claim",
         "if (not waiting and status ~= 'started') or live_execution(id) then",
         "if (not waiting and status ~= 'started') then",
         "test_heart_worker.py::test_doubled_entry_runs_once"),
    _lua("a broken record in a batch stops no neighbour", "claim",
         "local ok, answer = pcall(consider, q, id, at)",
         "local ok, answer = true, consider(q, id, at)",
         "test_heart_worker.py::test_absurd_numbers_of_a_record_leave_nothing_half_done"),
    _lua("a worker without a record takes nothing", "claim",
         "if not record[1] or record[3] then", "if record[3] then",
         "test_heart_worker.py::test_claim_needs_a_worker_that_is_known"),
    _lua("a worker that has left takes nothing", "claim",
         "if not record[1] or record[3] then", "if not record[1] then",
         "test_heart_worker.py"
         "::test_what_arrives_after_a_farewell_neither_revives_the_worker_nor_takes_a_job"),
    # Lost replies
    _lua("a claim that comes again brings the same", "claim",
         "if record[2] and seq <= tonumber(record[2]) then", "if false then",
         "test_heart_resend.py::test_claim_brings_the_same_executions"),
    _lua("an end that comes again is done once", "end",
         "if stored[2] and seq <= tonumber(stored[2])", "if false",
         "test_heart_resend.py::test_end_is_done_once"),
    _lua("a large batch that comes again is accepted", "commit",
         "  if has(key) then return { 1 } end\n", "",
         "test_heart_resend.py"
         "::test_large_batch_whose_reply_was_lost_is_accepted_and_not_told_as_a_repetition"),
    _lua("a claim that never arrived goes back with the next beat", "beat",
         "local ok, given = pcall(give_back, worker, composite)", "local ok, given = true, false",
         "test_heart_worker.py::test_beat_takes_back_what_was_claimed_and_never_arrived"),
    # Outcomes
    _lua("only the owner ends an execution", "end",
         "if execution[1] == worker then", "if true then",
         "test_heart_end.py::test_outcome_of_another_workers_execution_is_late"),
    _lua("a broken neighbour stops no outcome", "end",
         "local ok, answer = pcall(finish, {", "local ok, answer = true, finish({",
         "test_heart_end.py::test_batch_of_ends_survives_a_broken_neighbour"),
    _lua("dependents of a failed parent are settled", "ending",
         "cancel_waiting(id, { status = 'deferred', origin = q, ttl = job[7] }, 'parent_failed')",
         "call('PING')",
         "test_heart_dependents.py"
         "::test_failure_cancels_ours_and_leaves_a_stock_dependent_waiting"),
    _lua("one end settles a bounded number of dependents", "ending",
         "local DEPENDENTS_A_CALL = 100", "local DEPENDENTS_A_CALL = 100000",
         "test_heart_dependents.py::test_hundreds_of_dependents_are_settled_over_several_calls"),
    _lua("the trail keeps more runs than RQ's results", "lib",
         "local TRAIL_BYTES = 32768", "local TRAIL_BYTES = 1024",
         "test_heart_end.py::test_each_of_many_attempts_is_told"),
    # Memory
    _python("a full server goes on with what it has accepted", "scripts/__init__",
            '" flags=allow-oom"', '""',
            "test_heart_trouble.py::test_full_server_still_runs_ends_recovers_and_promotes"),
    # Time
    _lua("after a jump back nobody is taken for dead", "recover",
         "last > NOW_MS or ", "",
         "test_heart_recover.py"
         "::test_after_a_gap_in_time_nothing_is_taken_and_silence_counts_anew"),
    _lua("after a time without anybody asking nobody is taken for dead", "recover",
         " or NOW_MS - last > silence / 2", "",
         "test_heart_recover.py"
         "::test_after_a_gap_in_time_nothing_is_taken_and_silence_counts_anew"),
    _lua("the first to ask takes nobody for dead", "recover",
         "if not last or", "last = last or NOW_MS\nif",
         "test_heart_recover.py"
         "::test_after_a_gap_in_time_nothing_is_taken_and_silence_counts_anew"),
    _lua("a broken scheduled record stops no neighbour", "promote",
         "local ok, problem = pcall(move, q, id)", "local ok, problem = true, move(q, id)",
         "test_heart_promote.py::test_entry_whose_job_is_elsewhere_is_dropped"),
    # Recovery and upkeep
    _lua("recover leaves a job alone that runs elsewhere", "recover",
         "if job[1] ~= 'started' or live_execution(id, ex) then return end",
         "if job[1] ~= 'started' then return end",
         "test_heart_recover.py::test_job_that_runs_elsewhere_by_now_is_left_there"),
    _lua("recover leaves a job alone that is not running any more", "recover",
         "if job[1] ~= 'started' or live_execution(id, ex) then return end",
         "if live_execution(id, ex) then return end",
         "test_heart_recover.py::test_job_that_was_canceled_while_its_worker_died_stays_canceled"),
    _lua("a broken record of a silent worker stops no neighbour", "recover",
         "local ok, problem = pcall(abandon, worker, q or '', id or composite, ex or '')",
         "local ok, problem = true, abandon(worker, q or '', id or composite, ex or '')",
         "test_heart_recover.py::test_broken_record_of_a_silent_worker_does_not_stop_the_others"),
    _lua("one recover takes a bounded number", "recover",
         "local MOST, MOST_WORKERS, MOST_ENDED,",
         "local MOST, MOST_WORKERS, MOST_ENDED = 9e5, 9e5, 9e5\nlocal _, _, _,",
         "test_heart_recover.py::test_one_call_takes_a_bounded_number_and_says_that_there_is_more"),
    _lua("an id left in an intermediate list goes back", "recover",
         "tidy_intermediate, ", "",
         "test_heart_recover.py::test_id_left_between_queue_and_start_goes_back_after_a_minute"),
    _lua("an id in an intermediate list leaves it in the same step", "recover",
         "call('LREM', key, 1, id)\n", "\n",
         "test_heart_recover.py::test_id_left_between_queue_and_start_goes_back_after_a_minute"),
    _lua("a dependent that a dead stock worker found ready is queued", "recover",
         "tidy_ready, ", "",
         "test_heart_recover.py::test_dependent_that_a_dead_stock_worker_found_ready_is_queued"),
    _lua("an expired foreign execution is taken over", "recover",
         "{ tidy_wip, ", "{ ",
         "test_heart_recover.py::test_expired_execution_of_a_stock_worker_is_taken_over"),
    _lua("workers without a record are struck off", "recover",
         "\n  tidy_workers()\n", "\n",
         "test_heart_recover.py::test_workers_without_a_record_are_struck_off"),
    _lua("what is due leaves the registries", "recover",
         ", tidy_ended }", " }",
         "test_heart_recover.py::test_entries_of_ended_jobs_go_when_they_are_due"),
    _lua("what stock tools deleted leaves the lists", "recover",
         "tidy_retained, sweep, ", "tidy_retained, ",
         "test_heart_upkeep.py::test_lists_forget_what_stock_tools_deleted"),
    _lua("slots of jobs that stock tools deleted are given to others", "recover",
         "sweep, tidy_slots, ", "sweep, ",
         "test_heart_upkeep.py::test_slot_of_a_job_that_a_stock_tool_deleted_is_given_on"),
    _lua("bytes of an emptied queue are not counted any more", "recover",
         "tidy_slots, tidy_bytes", "tidy_slots",
         "test_heart_upkeep.py::test_bytes_of_a_queue_that_a_stock_tool_emptied_are_not_counted"),
    # Workers
    _lua("a beat makes no ghost", "beat",
         "if not record[1] or record[2] then", "if record[2] then",
         "test_heart_worker.py"
         "::test_beat_of_a_forgotten_worker_asks_it_to_register_and_makes_no_ghost"),
    _lua("a birth is record, sets and liveness together", "birth",
         "call('ZADD', OURS .. 'beats', NOW_MS, worker)", "",
         "test_heart_worker.py::test_birth_writes_record_sets_and_liveness_together"),
    _lua("what a leaving worker held goes back", "death",
         "pcall(give_back, worker, composite)", "true, false",
         "test_heart_worker.py::test_what_a_leaving_worker_held_goes_in_front_and_says_so"),
    _lua("a silent worker's keys go with it", "recover",
         "call('DEL', worker_key(worker), held_key(worker))", "",
         "test_heart_recover.py::test_nothing_of_a_silent_worker_is_left"),
    # New jobs
    _lua("a submission that comes again gets its first answer", "once",
         "answer[1] >= seq", "false",
         "test_heart_resend.py::test_resent_submit_does_not_revive_a_job_that_is_done_and_gone"),
    _lua("a job is refused where its queue is something else", "accept",
         "if found ~= 'none' and found ~= kind then return key end", "",
         "test_heart_trouble.py::test_job_is_refused_where_its_queue_is_something_else"),
]
# fmt: on


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("without") / "copy"
    leave_out = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(ROOT, folder, ignore=leave_out)
    return folder


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda each: each.claim.replace(" ", "-"))
def test_condition_is_watched_by_a_test(copy: Path, condition: Condition) -> None:
    file = copy / condition.file
    whole = file.read_text()
    assert condition.text in whole, "the condition is written otherwise now: adapt this list"
    file.write_text(whole.replace(condition.text, condition.without))
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
             f"--basetemp={copy.parent / 'tmp'}", f"tests/{condition.test}"],
            cwd=copy, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    finally:
        file.write_text(whole)

    # 1: tests failed. Anything else is a run that proves nothing.
    assert run.returncode == 1, run.stdout + run.stderr
