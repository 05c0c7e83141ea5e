"""The vocabulary of the simulated audience: journeys, content, devices and sentences.

Entries of a table are drawn uniformly, so a repeated entry is more likely; None leaves the field out.
Texts go into JSON unescaped: no quotes, no backslashes.
"""

import numpy as np

CHANNELS = ("web", "mobile", "social", "iot", "email")
# Devices that batch events and state when they sent them.
BATCHING = (CHANNELS.index("mobile"), CHANNELS.index("iot"))
DEVICES = ("desktop", "phone", "tablet", "sensor", "tv", "speaker", None)
DEVICE_TABLE = np.array([[0, 1, 2, 6], [1, 1, 2, 6], [1, 0, 6, 6], [3, 4, 5, 6], [1, 0, 6, 6]])  # by channel
BROWSE = ("web",) * 9 + ("mobile",) * 8 + ("social",) * 2 + ("email",)
TALK = ("social",) * 9 + ("mobile",) * 6 + ("web",) * 5
THINGS = ("iot",) * 20
# Weight, channels to draw from, steps. Steps share one content item until an impression or a search.
JOURNEYS: tuple[tuple[int, tuple[str, ...], str], ...] = (
    (240, BROWSE, "impression"),
    (130, BROWSE, "impression impression impression"),
    (60, BROWSE, "impression impression impression impression impression impression"),
    (90, BROWSE, "impression click page_view"),
    (50, BROWSE, "impression impression click page_view page_view"),
    (110, BROWSE, "page_view page_view"),
    (30, TALK, "impression click page_view like"),
    (16, TALK, "impression click page_view share"),
    (14, TALK, "impression click page_view like comment"),
    (10, TALK, "impression like follow"),
    (12, BROWSE, "impression click page_view bookmark"),
    (30, BROWSE, "page_view search page_view"),
    (40, BROWSE, "impression click page_view add_to_cart"),
    (34, BROWSE, "impression click page_view add_to_cart purchase"),
    (12, BROWSE, "search click page_view add_to_cart page_view purchase feedback"),
    (14, BROWSE, "impression click page_view signup"),
    (6, BROWSE, "impression click page_view signup page_view add_to_cart purchase"),
    (12, BROWSE, "page_view feedback"),
    (8, BROWSE, "page_view support_ticket"),
    (36, THINGS, "sensor_reading sensor_reading sensor_reading sensor_reading"),
)
STEPS = [steps.split() for _, _, steps in JOURNEYS]
LENGTHS = np.array([len(steps) for steps in STEPS])
FIRST_STEP = np.concatenate([[0], np.cumsum(LENGTHS)])[:-1]
TYPES = sorted({step for steps in STEPS for step in steps})
TYPE_OF_STEP = np.array([TYPES.index(step) for steps in STEPS for step in steps])
# Whether a step has a user_id: 0 before the signup of its journey, 1 from then on, 2 if the user is a known one.
LOGIN_OF_STEP = np.array(
    [int(i >= steps.index("signup")) if "signup" in steps else 2 for steps in STEPS for i in range(len(steps))]
)
SHOPS = np.array(["add_to_cart" in steps for steps in STEPS])
JOURNEY_TABLE = np.repeat(np.arange(len(JOURNEYS)), [weight for weight, _, _ in JOURNEYS])
CHANNEL_TABLE = np.array([[CHANNELS.index(c) for c in channels] for _, channels, _ in JOURNEYS])

KINDS = ("product", "article", "video")
CATEGORIES = ("shoes", "bags", "garden", "kitchen", "toys", "bikes", "news", "travel",
              "sport", "food", "music", "science", "film", "games", "comedy")  # fmt: skip
CAMPAIGNS = ("spring_sale", "newsletter", "app_launch", "weekend", "brand_video", "win_back") + (None,) * 24
COUNTRIES = ("US",) * 7 + ("GB",) * 4 + ("DE",) * 4 + ("FR",) * 2 + ("ES", "NL", "IT", None)
REFERRERS = ("https://search.example/", "https://news.example/", "https://social.example/") + (None,) * 24
QUERIES = ("running shoes", "city bike", "crème brûlée", "weekend in Lisbon", "jazz",
           "news today", "gift ideas", "tent 2p")  # fmt: skip
PLACES = ("entrance", "aisle-3", "lobby", "stage", "checkout", "living-room")

# Each text has one part of each row; feedback uses the row of its tone (0 bad, 1 mixed, 2 good).
SUBJECTS = ("the checkout", "delivery", "the new app", "your newsletter", "the video player", "search",
            "the size guide")  # fmt: skip
OPENINGS = (
    ("Honestly,", "Third time now:", "Sorry, but", "I gave up because", "Very annoyed:"),
    ("Overall", "For what it is,", "I would say", "After a week", "Mixed feelings:"),
    ("Wow,", "I love how", "Great work:", "Happy to say", "Thanks,"),
)
VERDICTS = (
    ("is slow and keeps failing", "lost my order", "does not work on my phone", "is far too expensive"),
    ("is fine but nothing special", "works most of the time", "could be faster", "needs a dark mode"),
    ("is fast and easy", "just works", "saved me an hour", "is better than ever", "is worth every €"),
)
CLOSINGS = (
    ("I want a refund.", "Please fix it.", "I will not come back.", "Nobody answers.", "Not recommended."),
    ("Let us see.", "Might come back.", "Keep going.", "No strong opinion.", "Fair enough."),
    ("Thank you!", "Keep it up!", "Told all my friends.", "Five stars.", "Très bien!"),
)
PROBLEMS = ("I cannot log in", "My payment was taken twice", "The parcel has not arrived",
            "The app crashes at start", "My voucher is refused", "I want to change my address")  # fmt: skip
SINCE = ("since yesterday.", "since the update.", "for three days.", "again.", "on every device.")
PLEAS = ("Please help.", "What can I do?", "Please call me back.", "Can you check?")
COMMENTS = ("So true!", "Where was this filmed?", "Not sure I agree.", "Saved for later.", "First!",
            "More of this, please", "Does it come in blue?", "Beautiful :)", "Source?",
            "¡Qué lindo!")  # fmt: skip
RATINGS = np.array((1, 1, 2, 3, 3, 4, 4, 5, 5, 5))
