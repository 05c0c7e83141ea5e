-- Online Retail, Parquet: a line of an invoice a row. Dates are text, month first, taken as UTC.
CREATE TABLE o_parsed AS
SELECT NULL::VARCHAR AS anonymous_id, NULL::VARCHAR AS session_id, NULL::VARCHAR AS content_type,
    NULL::VARCHAR AS category, NULL::VARCHAR AS campaign, NULL::VARCHAR AS referrer, Country AS country,
    NULL::VARCHAR AS device, 'GBP' AS currency, Quantity AS quantity,
    NULL::BOOLEAN AS is_bot, NULL::VARCHAR AS text, NULL::DOUBLE AS rating, NULL::VARCHAR AS properties,
    -- Through the shortest text of the price: the double itself is not the price that was written.
    (Quantity::DECIMAL(12, 0) * UnitPrice::VARCHAR::DECIMAL(18, 9))::VARCHAR AS value_text,
    filename AS file, file_row_number AS line, NULL::VARCHAR AS unreadable,
    InvoiceNo || '-' || StockCode AS event_id,
    CASE WHEN starts_with(InvoiceNo, 'C') THEN 'refund' ELSE 'purchase' END AS event_type,
    strptime(InvoiceDate, '%m/%d/%y %H:%M') AS client_time, true AS client_time_given,
    NULL::TIMESTAMP AS sent_time, NULL::TIMESTAMP AS stated_received_time,
    'client' AS clock, $source AS source,
    CustomerID::VARCHAR AS user_id, StockCode AS content_id, 'web' AS channel,
    Description AS extra, NULL::VARCHAR AS canonical
FROM read_parquet($files, filename = true, file_row_number = true);
