"""The watermark of a queue, by a clock that the tests hold."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.watermark import LASTING_SECONDS, LATELY_SECONDS, NOT_KNOWN, SteadyClock, Watermark

NOON = 1_772_000_000.0
HOUR = 3_600.0


class Time:
    """A wall clock and a monotonic one."""

    def __init__(self):
        self.passed, self.wrong = 0.0, 0.0

    def wall(self) -> float:
        return NOON + self.passed + self.wrong

    def monotonic(self) -> float:
        return 5.0 + self.passed


def made(delay: float = 10.0) -> tuple[Time, SteadyClock, Watermark]:
    time = Time()
    clock = SteadyClock(time.wall, time.monotonic)
    return time, clock, Watermark(delay, clock)


def test_nothing_is_known_until_the_queue_has_answered():
    _, _, mark = made()
    assert mark.advance(None, is_empty=False) == NOT_KNOWN


def test_it_is_the_earliest_of_what_was_pulled_lately_less_the_expected_delay():
    time, _, mark = made()
    mark.pulled(NOON - 40)
    mark.pulled(NOON - 20)
    assert mark.advance(None, is_empty=False) == NOON - 50
    time.passed += LATELY_SECONDS + 1
    mark.pulled(NOON - 5)
    assert mark.advance(None, is_empty=False) == NOON - 15


def test_what_waits_to_be_handed_on_holds_it():
    time, _, mark = made()
    mark.pulled(NOON - 100)
    time.passed += 60
    assert mark.advance(NOON - 100, is_empty=False) == NOON - 110


def test_an_empty_queue_lets_it_follow_the_clock():
    time, _, mark = made()
    mark.pulled(NOON - 100)
    assert mark.advance(None, is_empty=True) == NOON - 10
    time.passed += 7
    assert mark.advance(None, is_empty=True) == NOON - 3


def test_a_queue_that_cannot_be_reached_does_not_move_it():
    time, _, mark = made()
    before = mark.advance(None, is_empty=True)
    time.passed += HOUR
    assert mark.advance(None, is_empty=False) == before


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("pass"), st.floats(0, 400)),
            st.tuples(st.just("pull"), st.floats(-4 * HOUR, HOUR)),
            st.tuples(st.just("look"), st.sampled_from(["empty", "waiting", "unknown"])),
            st.tuples(st.just("jump"), st.sampled_from([-HOUR, 0.0, HOUR])),
        ),
        max_size=60,
    )
)
def test_it_never_goes_back_and_never_passes_the_true_time_or_the_wall_clock(steps):
    time, _, mark = made()
    last, oldest = NOT_KNOWN, NOON
    for what, value in steps:
        if what == "pass":
            time.passed += min(value, LASTING_SECONDS / 4) if time.wrong else value
        elif what == "jump":
            time.wrong = value
        elif what == "pull":
            oldest = NOON + time.passed + value
            mark.pulled(oldest)
        else:
            now = mark.advance(oldest if value == "waiting" else None, is_empty=value == "empty")
            assert now >= last
            assert now == last or now <= time.wall() - mark.expected_delay + 1e-3
            last = now


def test_a_jump_of_an_hour_forward_and_back_does_no_harm():
    time, clock, mark = made()
    for wrong in (0.0, HOUR, 0.0, HOUR, 0.0):
        time.wrong = wrong
        for _ in range(50):
            time.passed += 1
            assert abs(clock() - (NOON + time.passed)) < 1e-3
            assert abs(mark.advance(None, is_empty=True) - (NOON + time.passed - 10)) < 1e-3


def test_a_jump_back_makes_it_wait_and_no_more():
    time, _, mark = made()
    before = mark.advance(None, is_empty=True)
    time.wrong = -HOUR
    time.passed += 60
    assert mark.advance(None, is_empty=True) == before
    time.wrong = 0.0
    assert mark.advance(None, is_empty=True) == before + 60


def test_a_clock_that_was_set_right_is_believed_once_that_has_lasted():
    time, clock, _ = made()
    time.wrong = HOUR
    clock()
    time.passed += LASTING_SECONDS + 1
    clock()
    assert abs(clock() - time.wall()) < 1e-3


def test_a_clock_that_drifts_is_followed():
    time, clock, _ = made()
    for _ in range(100):
        time.passed += 10
        time.wrong += 0.5
        assert abs(clock() - time.wall()) < 1e-3
