"""Generate the events of a simulated audience, without faults: who did what, with which content, when and where.

    events_of(audience, block)  -> pl.DataFrame of up to BLOCK_EVENTS events

Traffic has a daily rhythm, users and content follow a power law, a session is a journey of the vocabulary.
"""

from datetime import date

import msgspec
import numpy as np
import polars as pl

from pipelines.apps.simulator import vocabulary as words
from transforms.errors import OptionError

BLOCK_EVENTS = 50_000
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000  # ms
SLOT = 15 * MINUTE
MOST_EVENTS = 1_000_000_000
# The contract accepts times from 1970 to 2200; a fault may move a time by 30 days.
FIRST_DAY, END_DAY = date(1970, 1, 2), date(2200, 1, 1)

# Traffic by hour of the UTC day: low at night, a peak at lunch, a higher one in the evening.
_BY_HOUR = (9, 6, 4, 3, 3, 5, 10, 18, 27, 34, 40, 47, 52, 48, 41, 38, 40, 47, 58, 70, 76, 66, 42, 21)
_SLOT_WEIGHTS = np.array(
    [this * (4 - q) + _BY_HOUR[hour - 23] * q for hour, this in enumerate(_BY_HOUR) for q in range(4)]
)
_SLOT_TICKS = np.concatenate([[0], np.cumsum(_SLOT_WEIGHTS * SLOT)])  # sessions draw a tick
_DAY_TICKS = int(_SLOT_TICKS[-1])


class Draws:
    """The random integers of one block."""

    def __init__(self, seed: int, block: int, purpose: str):
        # A stream for each purpose, so that other faults do not change the events.
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, block, *purpose.encode()]))

    def raw(self, n: int) -> np.ndarray:
        """n numbers of 53 bits, which a float64 holds exactly."""
        return (self._bits.random_raw(n) >> np.uint64(11)).astype(np.int64)

    def between(self, low: int, high: int, n: int) -> np.ndarray:
        """n numbers from low to high - 1, uniformly."""
        return low + self.raw(n) % (high - low)

    def skewed(self, limit: int, power: int, n: int) -> np.ndarray:
        """n numbers from 0 to limit - 1, small ones more often: limit * u ** power, a power law of ranks."""
        unit = self.raw(n) * 2.0**-53
        product = np.full(n, float(limit))
        for _ in range(power):  # not `**`: products are rounded the same everywhere, pow is not
            product = product * unit
        return np.minimum(product.astype(np.int64), limit - 1)

    def choice(self, table: tuple, n: int) -> pl.Series:
        """n entries of the table, uniformly."""
        return pl.Series(table).gather(self.between(0, len(table), n))


class Audience(msgspec.Struct, frozen=True):
    """The number of events, their seed and their days; OptionError for a number out of bounds."""

    events: int
    seed: int
    days: int
    start: date

    def __post_init__(self) -> None:
        for name, least in (("events", 1), ("seed", 0), ("days", 1)):
            if getattr(self, name) < least:
                raise OptionError(f"--{name}: got {getattr(self, name)!r}; it must be {least} or more")
        if self.events > MOST_EVENTS:
            raise OptionError(f"--events: got {self.events!r}; it must be {MOST_EVENTS:,} or less")
        if self.start < FIRST_DAY:
            raise OptionError(f"--start: got '{self.start}'; it must be {FIRST_DAY} or later")
        if self.start.toordinal() + self.days > END_DAY.toordinal():
            raise OptionError(f"--days: got {self.days!r}; {self.start} and so many days must end by {END_DAY}")

    @property
    def users(self) -> int:
        return max(self.events // 8, 4)

    @property
    def hot_person(self) -> int:
        """The number of the hot person, above all others."""
        return 2 * self.users

    @property
    def contents(self) -> int:
        """The number of content items of each kind."""
        return max(self.events // 300, 20)

    @property
    def epoch(self) -> int:
        """The first midnight in ms since 1970."""
        return (self.start - date(1970, 1, 1)).days * DAY

    @property
    def blocks(self) -> int:
        return -(-self.events // BLOCK_EVENTS)

    def first_tick(self, block: int) -> int:
        """The tick at which the sessions of the block begin, and those of the previous block end."""
        return self.days * _DAY_TICKS * min(block * BLOCK_EVENTS, self.events) // self.events

    def begin(self, block: int) -> int:
        """The earliest time of the block, ms since 1970."""
        return self.epoch + int(_time_of(np.array([self.first_tick(block)]))[0])


def _mixed_hex(numbers: np.ndarray, seed: int) -> pl.Series:
    """12 hex digits for each number, different for different numbers below 2 ** 48: each step is invertible."""
    low48 = np.uint64(2**48 - 1)
    z = numbers.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**48) & low48
    z = (z ^ (z >> np.uint64(25))) * np.uint64(0xBF58476D1CE4E5B9) & low48
    z = (z ^ (z >> np.uint64(22))) * np.uint64(0x94D049BB133111EB) & low48
    digits = (z ^ (z >> np.uint64(25))).astype(">u8").tobytes().hex()
    return pl.Series([digits[i + 4 : i + 16] for i in range(0, len(digits), 16)], dtype=pl.String)


def _journeys(draws: Draws, n: int) -> np.ndarray:
    """Indexes into JOURNEYS of journeys that together have n events or a few more."""
    drawn = words.JOURNEY_TABLE[draws.between(0, len(words.JOURNEY_TABLE), n)]  # n are enough, as none is empty
    return drawn[: int(np.searchsorted(np.cumsum(words.LENGTHS[drawn]), n)) + 1]


def _format_ids(letter: str, numbers: np.ndarray) -> pl.Series:
    return pl.select(pl.format(letter + "{}", pl.Series(numbers))).to_series()


def _time_of(ticks: np.ndarray) -> np.ndarray:
    """The ticks as ms since the first midnight; uniform ticks follow the density of the traffic."""
    day, tick = np.divmod(ticks, _DAY_TICKS)
    slot = np.searchsorted(_SLOT_TICKS, tick, side="right") - 1
    return day * DAY + slot * SLOT + (tick - _SLOT_TICKS[slot]) // _SLOT_WEIGHTS[slot]


def _people(audience: Audience, user: np.ndarray, place: np.ndarray, channel: np.ndarray) -> dict[str, pl.Series]:
    """The person of each event: 7 of 10 users have a user_id, the others only an anonymous_id."""
    login = words.LOGIN_OF_STEP[place]
    known = pl.Series((login == 1) | ((login == 2) & (user % 10 < 7)))
    named = pl.Series(login < 2) | ~known | pl.Series((channel == 0) & (user % 4 == 0))
    ids = pl.DataFrame({"user": user, "u": _format_ids("u", user), "a": _format_ids("a", user)})
    return ids.select(
        user_id=pl.when(known).then("u"),
        anonymous_id=pl.when(named).then("a"),
        person=pl.when(known).then("user").otherwise(pl.col("user") + audience.users),
        visitor=pl.when(named).then(pl.col("user") + audience.users),  # the person if a fault spoils the user_id
    ).to_dict()


def _contents(
    audience: Audience, draws: Draws, session: np.ndarray, types: pl.Series, shops: np.ndarray
) -> dict[str, pl.Series]:
    """The content of each event, and for carts and purchases its price in cents, one price for each content item."""
    n = len(session)
    new = np.append(True, session[1:] != session[:-1]) | types.is_in(["impression", "search"]).to_numpy()
    since = np.maximum.accumulate(np.where(new, np.arange(n), 0))
    rank = draws.skewed(audience.contents, 3, n)[since]
    kind = np.where(shops, 0, np.array((0, 1, 1, 2))[draws.between(0, 4, n)][since])
    frame = pl.DataFrame({"rank": rank, "kind": kind, "quantity": 1 + draws.skewed(4, 3, n)[since], "type": types})
    about = ~pl.col("type").is_in(["search", "signup", "support_ticket", "sensor_reading"])
    paid = pl.col("type").is_in(["add_to_cart", "purchase"])
    kinds, categories = pl.Series(words.KINDS), pl.Series(words.CATEGORIES)
    return frame.select(
        content_id=pl.when(about).then(pl.format("{}{}", kinds.gather(kind).str.head(1), "rank")),
        content_type=pl.when(pl.col("type") == "page_view").then(kinds.gather(kind)),
        category=pl.when(about).then(categories.gather((rank * 7 + kind) % len(categories))),
        quantity=pl.when(paid).then("quantity"),
        cents=pl.when(paid).then((499 + pl.col("rank") * 7919 % 400 * 25) * pl.col("quantity")),
    ).to_dict()


def _sentences(draws: Draws, n: int, *rows: tuple[str, ...]) -> pl.Series:
    """n sentences, each with one part from each row."""
    return pl.select(pl.concat_str([draws.choice(row, n) for row in rows], separator=" ")).to_series()


def _texts(draws: Draws, types: pl.Series) -> dict[str, pl.Series]:
    """The texts that people write, fitting ratings, and the small `properties` (JSON) of some types."""
    n = len(types)
    rating = pl.Series(words.RATINGS).gather(draws.between(0, len(words.RATINGS), n))
    tones = [
        _sentences(draws, n, words.OPENINGS[tone], words.SUBJECTS, words.VERDICTS[tone], words.CLOSINGS[tone])
        for tone in range(3)
    ]
    seconds, people = (pl.Series(draws.skewed(limit, 2, n)) for limit in (300, 12))
    kind = pl.lit(types)
    stars = pl.lit(rating)
    feedback = pl.when(stars < 3).then(tones[0]).when(stars > 3).then(tones[2]).otherwise(tones[1])
    support = _sentences(draws, n, words.PROBLEMS, words.SINCE, words.PLEAS)
    query = pl.format('{{"query":"{}"}}', draws.choice(words.QUERIES, n))
    read = pl.format('{{"seconds":{}}}', seconds)
    dwelt = (kind == "page_view") & (pl.lit(seconds) > 60)
    sensed = pl.format('{{"place":"{}","people":{}}}', draws.choice(words.PLACES, n), people)
    return pl.select(
        text=pl.when(kind == "feedback").then(feedback).when(kind == "support_ticket").then(support)
        .when(kind == "comment").then(draws.choice(words.COMMENTS, n)),
        rating=pl.when(kind == "feedback").then(rating),
        properties=pl.when(kind == "search").then(query).when(dwelt).then(read)
        .when(kind == "sensor_reading").then(sensed),
    ).to_dict()  # fmt: skip


def _times(draws: Draws, starts: np.ndarray, session: np.ndarray, batching: np.ndarray) -> dict[str, np.ndarray]:
    """When each event happened, was sent and was received, in ms; 1 in 50 events of batching devices was offline."""
    n = len(session)
    gaps = np.cumsum(1000 + draws.skewed(90_000, 2, n))
    first = np.searchsorted(session, np.arange(len(starts)))
    event = starts[session] + gaps - gaps[first][session]
    offline = draws.between(0, 50, n) == 0
    held = np.where(batching, draws.skewed(15_000, 3, n) + offline * draws.between(0, 10 * MINUTE, n), 3)
    sent = event + held
    received = sent + 20 + draws.skewed(4000, 4, n)
    return {"event_ms": event, "sent_ms": sent, "received_ms": received, "tells_sent": held > 5 * SECOND}


def events_of(audience: Audience, block: int) -> pl.DataFrame:
    """The events of the block, with the fields of the contract and these columns:

    index                           Int64, the number of the event across all blocks
    event_ms, sent_ms, received_ms  Int64, since 1970; tells_sent Boolean, whether the record has a sent_time
    person, visitor                 Int64, below 2 * audience.users: the number of the person by user_id, else
                                    anonymous_id, and of the person by anonymous_id alone
    cents                           Int64, the value; properties String, JSON
    """
    draws, first = Draws(audience.seed, block, "events"), block * BLOCK_EVENTS
    n = min(BLOCK_EVENTS, audience.events - first)
    journeys = _journeys(draws, n)
    lengths = words.LENGTHS[journeys]
    session = np.repeat(np.arange(len(journeys)), lengths)[:n]
    step = np.arange(n) - (np.cumsum(lengths) - lengths)[session]
    place = words.FIRST_STEP[journeys][session] + step
    ticks = draws.between(audience.first_tick(block), audience.first_tick(block + 1), len(journeys))
    starts = audience.epoch + _time_of(np.sort(ticks))
    channels = words.CHANNEL_TABLE[journeys, draws.between(0, words.CHANNEL_TABLE.shape[1], len(journeys))]
    channel, user = channels[session], draws.skewed(audience.users, 2, len(journeys))[session]
    device = words.DEVICE_TABLE[channels, draws.between(0, words.DEVICE_TABLE.shape[1], len(journeys))]
    types = pl.Series(words.TYPES).gather(words.TYPE_OF_STEP[place])
    devices = pl.Series(words.DEVICES).gather(device[session])
    country = pl.Series(words.COUNTRIES).gather(user * 31 % len(words.COUNTRIES))
    currency = country.replace_strict({"US": "USD", "GB": "GBP", None: "USD"}, default="EUR")
    referrer = draws.choice(words.REFERRERS, len(journeys)).gather(session)
    about = _contents(audience, draws, session, types, words.SHOPS[journeys][session])
    return pl.DataFrame(
        {
            "index": first + np.arange(n),
            "event_id": _mixed_hex(first + np.arange(n), audience.seed),
            "event_type": types,
            **_times(draws, starts, session, np.isin(channel, words.BATCHING)),
            **_people(audience, user, place, channel),
            "session_id": _format_ids("s", first + session),
            **about,
            "channel": pl.Series(words.CHANNELS).gather(channel),
            "campaign": draws.choice(words.CAMPAIGNS, len(journeys)).gather(session),
            "referrer": pl.select(pl.when(pl.Series(step) == 0).then(referrer)).to_series(),
            "country": country,
            "device": pl.select(pl.when(types != "impression").then(devices)).to_series(),
            "currency": pl.select(pl.when(about["cents"].is_not_null()).then(currency)).to_series(),
            "is_bot": pl.Series([None], dtype=pl.Boolean).new_from_index(0, n),
            **_texts(draws, types),
        }
    )
