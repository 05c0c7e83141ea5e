-- The raw lines, as text. An empty line is no record; one of white space is, if a bad one.
-- $files and $lines are filled in by oracle.py; read_csv puts lines that are no UTF-8 into `o_rejects`.
CREATE TABLE o_lines AS
WITH raw AS (
    SELECT filename AS file, row_number() OVER (PARTITION BY filename) AS line, text
    FROM read_csv($files, columns = {'text': 'VARCHAR'}, filename = true, header = false, auto_detect = false,
                  delim = chr(7), quote = '', escape = '', comment = '', nullstr = chr(1) || chr(1), new_line = '\n',
                  strict_mode = false, max_line_size = 100000000, ignore_errors = true, store_rejects = true,
                  rejects_table = 'o_rejects', rejects_scan = 'o_reject_scans')
),
trimmed AS (
    SELECT file, line, rtrim(text, chr(13)) AS text
    FROM raw
    WHERE rtrim(text, chr(13)) <> ''
),
judged AS (
    SELECT *, coalesce(json_valid(text), false) AS parses,
        -- DuckDB's parser also takes trailing commas, NaN and Infinity, which are no JSON: look outside the strings.
        CASE WHEN regexp_matches(text, ',\s*[}\]]|[nN][aA][nN]|[iI][nN][fF]')
             THEN regexp_matches(regexp_replace(text, '"(\\.|[^"\\])*"', '""', 'g'),
                                 ',\s*[}\]]|[nN][aA][nN]|[iI][nN][fF]')
             ELSE false END AS lenient
    FROM trimmed
)
SELECT file, line, text,
    CASE WHEN parses AND NOT lenient THEN json_type(text) = 'OBJECT' ELSE false END AS readable
FROM judged;

-- One row for each line that is no UTF-8: it has no text that could be shown here.
INSERT INTO o_lines
SELECT s.file_path, -(r.line::BIGINT), NULL, false
FROM o_rejects r JOIN o_reject_scans s USING (scan_id, file_id)
GROUP BY ALL;
