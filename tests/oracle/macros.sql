-- RFC 3339: an offset is required; digits after the sixth of a fraction are dropped; second 60 cannot be read.
-- Through TIMESTAMPTZ, since a cast to TIMESTAMP would drop the offset.
CREATE MACRO any_time(t) AS CASE
    WHEN regexp_full_match(t, '\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})')
    THEN make_timestamp(epoch_us(try_cast(regexp_replace(upper(t), '(\.\d{6})\d+', '\1') AS TIMESTAMPTZ)))
END;
-- Before 1970 or after 2200 nothing happened: that is a wrong unit or an unset clock, and cannot be read either.
CREATE MACRO read_time(t) AS
    CASE WHEN any_time(t) >= TIMESTAMP '1970-01-01' AND any_time(t) < TIMESTAMP '2201-01-01' THEN any_time(t) END;

-- The pairs of a JSON object under these keys, in order of the keys: equal for equal records, whatever their order.
CREATE MACRO pairs_of(record, keys) AS CASE WHEN len(keys) > 0 THEN
    list_transform(list_sort(keys), lambda k: k || '='
        || json_extract(record, '/' || replace(replace(k, '~', '~0'), '/', '~1'))::VARCHAR)::VARCHAR
END;
