"""The words by which a proposal recognizes a field: common names of fields, and common names of event types.

Names are compared without case and underscores; earlier ones take precedence.
"""

from typing import Final

from pipelines.apps.mapping.words_by_language import NAMES_BY_LANGUAGE


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "received_time": _listed(
        "received_time received_at received receive_time server_received_at ingested_at ingest_time ingestion_time"
        " ingestion_timestamp arrival_time collector_tstamp collected_at server_time server_timestamp server_ts"
    ),
    "sent_time": _listed(
        "sent_time sent_at send_time client_sent_at dvce_sent_tstamp client_upload_time sent_timestamp"
    ),
    "event_time": _listed(
        "event_time event_timestamp event_ts event_datetime event_at occurred_at occurred happened_at"
        " original_timestamp client_time client_timestamp device_time timestamp time ts dt datetime date_time"
        " event_date created_at created created_time create_time creation_date invoice_date order_date purchase_date"
        " transaction_date dvce_created_tstamp derived_tstamp at date start_time started_at visit_start_time"
        " unix_time epoch t when"
    ),
    "event_id": _listed(
        "event_id event_uuid event_guid message_id insert_id uuid guid id _id record_id hit_id log_id log_uuid"
        " row_id delivery_id transaction_id"
        " order_id ride_id trip_id tweet_id review_id comment_id booking_id payment_id invoice_id request_id"
    ),
    "user_id": _listed(
        "user_id user customer_id customer member_id account_id uid actor_id actor user_uuid person_id profile_id"
        " player_id subscriber_id viewer_id listener_id buyer_id shopper_id author_id author username user_name"
        " login user_login who sender_id reviewer_id customer_number customer_no user_hash user_key user_email email"
        " passenger_id rider_id guest_name client reporter_id student_id patient_id employee_id"
    ),
    "anonymous_id": _listed(
        "anonymous_id anon_id visitor_id visitor device_id client_id cookie_id user_pseudo_id full_visitor_id"
        " distinct_id domain_userid guest_id cookie browser_id installation_id install_id idfa gaid"
        " client_ip c_ip ip ip_address remote_addr remote_host source_ip source_ip_address"
    ),
    "session_id": _listed("session_id session visit_id session_key session_uuid session_token sid domain_sessionid"),
    "event_type": _listed(
        "event_type event_name event type action event_action action_type activity_type activity kind verb interaction"
        " interaction_type event_kind operation behavior behavior_type behaviour behaviour_type what op event_title"
        " status_type"
    ),
    "content_id": _listed(
        "content_id item_id product_id article_id video_id post_id page_id asset_id media_id track_id song_id movie_id"
        " stock_code sku product_sku product_code item_code listing_id document_id object_id isbn asin creative_id"
        " ad_id aid repo_name repo_id repo repository content item product article video page page_path page_url"
        " page_location url path uri link resource page_title title"
        " cs_uri_stem uri_stem request_uri request_path station_id start_station_id resource"
    ),
    "content_type": _listed("content_type item_type object_type media_type page_type document_type"),
    "category": _listed(
        "category category_name category_id category_code item_category product_category content_category section genre"
        " topic department namespace vertical"
        " subreddit"
    ),
    "channel": _listed(
        "channel platform source_channel client_platform app_platform medium device_type device_category"
    ),
    "campaign": _listed("campaign campaign_name campaign_id utm_campaign mkt_campaign"),
    "referrer": _listed(
        "referrer referer page_referrer http_referer referring_url referrer_url ref cs_referer cs_referrer"
    ),
    "country": _listed("country country_code country_iso_code geo_country country_name nation"),
    "device": _listed("device device_type device_category device_model device_name platform os browser"),
    "value": _listed(
        "value revenue amount price total_price unit_price order_total total order_value sale_price purchase_amount"
        " total_amount item_price event_value gmv ticket_price"
        " total_due amount_due total_amount_due grand_total"
    ),
    "currency": _listed("currency currency_code iso_currency currency_iso price_currency"),
    "quantity": _listed("quantity qty units item_count items_count number_of_items num_items"),
    "is_bot": _listed("is_bot bot is_robot robot is_crawler crawler is_automated"),
    "text": _listed("text review_text review_body comment_text review comment message feedback body note"),
    "rating": _listed("rating stars star_rating score overall review_score review_rating"),
}
NAMES: Final = {field: names + NAMES_BY_LANGUAGE.get(field, ()) for field, names in _NAMES.items()}

# Names of the event type that cannot mean anything else.
OUTRIGHT: Final = set(
    _listed("event_type event_name event_action event_kind verb behavior_type behaviour_type user_action")
)

# Suffixes by which a longer name suggests a field: shop_customer_id, click_timestamp.
ENDS: Final[dict[str, tuple[str, ...]]] = {
    "event_time": _listed("timestamp time ts datetime date tstamp at utc"),
    "user_id": _listed("user_id customer_id member_id username"),
    "anonymous_id": _listed("visitor_id device_id cookie_id anonymous_id"),
    "session_id": _listed("session_id"),
    "content_id": _listed("content_id item_id product_id article_id video_id"),
    "country": _listed("country country_code"),
    "category": _listed("category"),
    "campaign": _listed("campaign"),
}

# Words that do not occur in the name of an event's own time.
OTHER_TIMES: Final = set(
    _listed(
        "received receive ingest ingested ingestion arrival collector server sent send upload uploaded update updated"
        " modified expires expiry expire birth birthday deleted loaded processed etl load zone offset elapsed duration"
        " spent first last signup joined registered registration release published end ended finish until"
    )
)

_WELL_KNOWN: Final[dict[str, str]] = {
    "page_view": "view viewed views page_viewed page_views pageview pv visit screen screen_view screen_viewed"
    " view_item product_view product_viewed item_view content_view view_content detail_view view_product"
    " view_page page open pageviews page_load view_page home browse browsed product_detail product_page detail",
    "click": "clicked clicks tap tapped select_item select_content link_click link_clicked button_click"
    " click_item ad_click tapped_button press",
    "impression": "impressions imp shown displayed view_item_list ad_impression exposure expose",
    "like": "liked likes favorite favorited favourite fav star starred watch upvote heart thumbs_up thumb_up"
    " upvoted likes_received",
    "share": "shared shares fork forked retweet repost reshare",
    "comment": "commented comments reply replied commit_comment issue_comment pr_comment"
    " pull_request_review_comment pull_request_review discussion_comment",
    "follow": "followed follows subscribe subscribed member add_friend",
    "bookmark": "bookmarked save saved wishlist add_to_wishlist wish add_to_playlist",
    "search": "searched searches query site_search view_search_results search_results search_query",
    "signup": "sign_up signed_up register registered registration complete_registration create_account"
    " user_registered account_created user_signed_up subscription_created",
    "login": "log_in logged_in sign_in signed_in signin user_logged_in",
    "logout": "log_out logged_out sign_out signed_out signout",
    "add_to_cart": "cart carts addtocart added_to_cart product_added add_cart basket add_to_basket cart_add"
    " add_to_shopping_cart add_item added addcart add_to_bag",
    "remove_from_cart": "removed_from_cart product_removed cart_remove remove_cart",
    "checkout": "begin_checkout checkout_started initiate_checkout start_checkout",
    "purchase": "purchased purchases order orders ordered buy bought transaction sale order_completed"
    " order_placed payment paid pay checkout_completed charge_succeeded payment_succeeded"
    " payment_intent_succeeded invoice_paid invoice_payment_succeeded order_created order_paid order_complete"
    " complete_purchase purchase_completed transaction_completed checkout_session_completed sold complete_payment",
    "refund": "refunded refunds return returned order_refunded charge_refunded refund_created order_refund"
    " cancelled_order refund_succeeded payment_refunded",
    "feedback": "rate rated rating review reviewed survey",
    "support_ticket": "ticket ticket_created support",
    "publish": "published publishes post posted create created push pushed release released upload uploaded"
    " public gollum",
    "submit": "submitted pr pull_request issue issues",
    "edit": "edited update updated modify modified",
    "delete": "deleted del remove removed deletes",
    "play": "played video_play video_start video_started start_video stream play_video next_song played_song"
    " listen listened stream_start watch_video",
}
EVENT_TYPES: Final[dict[str, str]] = {
    word.replace("_", ""): made for made, words in _WELL_KNOWN.items() for word in (made, *words.split())
}

CHANNELS: Final[dict[str, str]] = {
    word: made
    for made, words in {
        "web": "web website desktop browser site pc www web_app computer laptop",
        "mobile": "mobile ios android app phone iphone ipad tablet mobile_app smartphone",
        "social": "social facebook instagram twitter tiktok x youtube linkedin",
        "iot": "iot tv smart_tv ctv sensor watch wearable console set_top_box",
        "email": "email mail newsletter",
        "pos": "pos store in_store offline retail shop",
        "server": "server api backend s2s",
        "other": "other unknown",
    }.items()
    for word in words.split()
}
