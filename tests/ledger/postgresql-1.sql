CREATE TABLE accounts (
    company text NOT NULL,
    customer text NOT NULL,
    linked_at bigint NOT NULL
);
CREATE TABLE counted (
    meter text NOT NULL,
    quantity bigint NOT NULL
);
CREATE TABLE folds (
    generation character varying(32) NOT NULL,
    folded_at bigint NOT NULL
);
CREATE TABLE lease (
    name character varying(40) NOT NULL,
    holder text NOT NULL,
    token bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE TABLE meta (
    key character varying(40) NOT NULL,
    value text NOT NULL
);
CREATE TABLE reports (
    id bigint NOT NULL,
    identifier character varying(100) NOT NULL,
    meter text NOT NULL,
    event_name text NOT NULL,
    company text NOT NULL,
    customer text NOT NULL,
    "window" bigint NOT NULL,
    sequence integer NOT NULL,
    quantity bigint NOT NULL,
    "timestamp" bigint NOT NULL,
    created_at bigint NOT NULL,
    state character varying(10) NOT NULL,
    attempts integer NOT NULL,
    refusals integer NOT NULL,
    unknown_since bigint,
    error text NOT NULL,
    settled_at bigint
);
CREATE SEQUENCE reports_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE reports_id_seq OWNED BY reports.id;
CREATE TABLE usage (
    meter text NOT NULL,
    event_name text NOT NULL,
    company text NOT NULL,
    "user" text NOT NULL,
    "window" bigint NOT NULL,
    quantity bigint NOT NULL,
    reported bigint NOT NULL,
    last_used bigint NOT NULL
);
ALTER TABLE ONLY reports ALTER COLUMN id SET DEFAULT nextval('reports_id_seq'::regclass);
INSERT INTO accounts VALUES ('acme', 'cus_30G3MpCg37LrEM', 1772367000);
INSERT INTO counted VALUES ('egress', 700);
INSERT INTO counted VALUES ('calls', 70);
INSERT INTO folds VALUES ('316d3e3a61e44192b2dfd7f137d05df6', 1772460600);
INSERT INTO lease VALUES ('reporter', '10279-79d3c46825d34460ac29d7ad36bf281c', 3, 0);
INSERT INTO meta VALUES ('schema_version', '1');
INSERT INTO meta VALUES ('ledger_id', '8b2c18cc430f40d68cda9ca223997420');
INSERT INTO reports VALUES (1, 'mk_8db813b5eb0aa775a7832a9a1ed40bd8c2a0512155a72525', 'calls', 'calls', 'acme', 'cus_30G3MpCg37LrEM', 1772366400, 0, 7, 1772367000, 1772370600, 'sent', 1, 0, 1772370600, '', 1772370600);
INSERT INTO reports VALUES (2, 'mk_baf7841412dfd59469523ad7d4d812242671d815b1bb4bc0', 'calls', 'calls', 'cus_gone', 'cus_gone', 1772366400, 0, 3, 1772367000, 1772370600, 'rejected', 1, 0, 1772370600, '400: No such customer: ''cus_gone'' [req_MgFU7sqHcvkpfV]', 1772370600);
INSERT INTO reports VALUES (3, 'mk_a3fd1adda905cdd4c75e57327f9d70ff83aefeed9fab8687', 'egress', 'egress_bytes', 'acme', 'cus_30G3MpCg37LrEM', 1772366400, 0, 700, 1772367000, 1772370600, 'pending', 2, 2, NULL, '400: No active meter found for event name "egress_bytes". [req_Dns1gA95QyTNmS] Create the meter, and it will be sent', NULL);
INSERT INTO reports VALUES (4, 'mk_bc441253e2b2889f02a743fee46fdeeff3b20fc152a37b76', 'calls', 'calls', 'acme', 'cus_30G3MpCg37LrEM', 1772370000, 0, 17, 1772370600, 1772374200, 'uncertain', 4, 0, 1772374200, 'no answer: ReadError: [Errno 104] Connection reset by peer', NULL);
INSERT INTO usage VALUES ('calls', 'calls', '', '', 1772366400, 13, 0, 1772367000);
INSERT INTO usage VALUES ('calls', 'calls', 'globex', '', 1772366400, 11, 0, 1772367000);
INSERT INTO usage VALUES ('calls', 'calls', 'acme', '', 1772366400, 2, 2, 1772367000);
INSERT INTO usage VALUES ('calls', 'calls', 'acme', 'anna', 1772366400, 5, 5, 1772367000);
INSERT INTO usage VALUES ('calls', 'calls', 'cus_gone', '', 1772366400, 3, 3, 1772367000);
INSERT INTO usage VALUES ('egress', 'egress_bytes', 'acme', '', 1772366400, 700, 700, 1772367000);
INSERT INTO usage VALUES ('calls', 'calls', 'acme', '', 1772370000, 17, 17, 1772370600);
INSERT INTO usage VALUES ('calls', 'calls', 'acme', '', 1772460000, 19, 0, 1772460600);
SELECT pg_catalog.setval('reports_id_seq', 4, true);
ALTER TABLE ONLY accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (company);
ALTER TABLE ONLY counted
    ADD CONSTRAINT counted_pkey PRIMARY KEY (meter);
ALTER TABLE ONLY folds
    ADD CONSTRAINT folds_pkey PRIMARY KEY (generation);
ALTER TABLE ONLY lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (name);
ALTER TABLE ONLY meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (key);
ALTER TABLE ONLY reports
    ADD CONSTRAINT reports_identifier_key UNIQUE (identifier);
ALTER TABLE ONLY reports
    ADD CONSTRAINT reports_meter_event_name_company_window_sequence_key UNIQUE (meter, event_name, company, "window", sequence);
ALTER TABLE ONLY reports
    ADD CONSTRAINT reports_pkey PRIMARY KEY (id);
ALTER TABLE ONLY usage
    ADD CONSTRAINT usage_pkey PRIMARY KEY (meter, event_name, company, "user", "window");
CREATE INDEX ix_folds_folded_at ON folds USING btree (folded_at);
CREATE INDEX reports_state ON reports USING btree (state);
CREATE INDEX usage_unreported ON usage USING btree ("window") WHERE (quantity <> reported);
