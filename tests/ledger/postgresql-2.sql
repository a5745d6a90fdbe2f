CREATE TABLE meterkit_accounts (
    company text NOT NULL,
    customer text NOT NULL,
    linked_at bigint NOT NULL
);
CREATE TABLE meterkit_counted (
    meter text NOT NULL,
    quantity bigint NOT NULL
);
CREATE TABLE meterkit_folds (
    generation character varying(32) NOT NULL,
    folded_at bigint NOT NULL
);
CREATE TABLE meterkit_lease (
    name character varying(40) NOT NULL,
    holder text NOT NULL,
    token bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE TABLE meterkit_meta (
    key character varying(40) NOT NULL,
    value text NOT NULL
);
CREATE TABLE meterkit_reports (
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
    revision integer DEFAULT 0 NOT NULL,
    refusals integer NOT NULL,
    attempted_at bigint,
    unknown_since bigint,
    compared_at bigint,
    error text NOT NULL,
    settled_at bigint
);
CREATE SEQUENCE meterkit_reports_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE meterkit_reports_id_seq OWNED BY meterkit_reports.id;
CREATE TABLE meterkit_usage (
    meter text NOT NULL,
    event_name text NOT NULL,
    company text NOT NULL,
    "user" text NOT NULL,
    "window" bigint NOT NULL,
    quantity bigint NOT NULL,
    reported bigint NOT NULL,
    last_used bigint NOT NULL
);
ALTER TABLE ONLY meterkit_reports ALTER COLUMN id SET DEFAULT nextval('meterkit_reports_id_seq'::regclass);
INSERT INTO meterkit_accounts VALUES ('acme', 'cus_Fr65HDEaLgoVck', 1772367000);
INSERT INTO meterkit_counted VALUES ('egress', 700);
INSERT INTO meterkit_counted VALUES ('calls', 70);
INSERT INTO meterkit_lease VALUES ('reporter', '13468-da3726ceb9904637893894e3b0500fc3', 3, 0);
INSERT INTO meterkit_meta VALUES ('schema_version', '2');
INSERT INTO meterkit_meta VALUES ('ledger_id', '936f0ddee1c044f282f4f2844eef9433');
INSERT INTO meterkit_reports VALUES (1, 'mk_ca5acb54bcf8875262de49db8ffc824cf70904d80f56044f', 'calls', 'calls', 'acme', 'cus_Fr65HDEaLgoVck', 1772366400, 0, 7, 1772367000, 1772370600, 'sent', 1, 0, 0, 1772370600, NULL, NULL, '', 1772370600);
INSERT INTO meterkit_reports VALUES (2, 'mk_82e038078b044d106be80734958f65d00c9b47eb55ef1ca8', 'calls', 'calls', 'cus_gone', 'cus_gone', 1772366400, 0, 3, 1772367000, 1772370600, 'rejected', 1, 0, 0, 1772370600, NULL, NULL, '400: No such customer: ''cus_gone'' [req_B9xFARtsGfZziI]', 1772370600);
INSERT INTO meterkit_reports VALUES (4, 'mk_620ca787396be869cf03491f3527dd72848d672bc5aa653e', 'calls', 'calls', 'acme', 'cus_Fr65HDEaLgoVck', 1772370000, 0, 17, 1772370600, 1772374200, 'sent', 4, 0, 0, 1772374200, NULL, NULL, '', 1772460600);
INSERT INTO meterkit_reports VALUES (3, 'mk_5afd76b18cfcb9e0a37369681911679712f0d52db8568b6f', 'egress', 'egress_bytes', 'acme', 'cus_Fr65HDEaLgoVck', 1772366400, 0, 700, 1772367000, 1772370600, 'pending', 2, 2, 0, 1772460600, NULL, NULL, '400: No active meter found for event name "egress_bytes". [req_4R0mWg8hEHkg5I] Create the meter, and it will be sent', NULL);
INSERT INTO meterkit_usage VALUES ('calls', 'calls', '', '', 1772366400, 13, 0, 1772367000);
INSERT INTO meterkit_usage VALUES ('calls', 'calls', 'globex', '', 1772366400, 11, 0, 1772367000);
INSERT INTO meterkit_usage VALUES ('calls', 'calls', 'acme', '', 1772366400, 2, 2, 1772367000);
INSERT INTO meterkit_usage VALUES ('calls', 'calls', 'acme', 'anna', 1772366400, 5, 5, 1772367000);
INSERT INTO meterkit_usage VALUES ('calls', 'calls', 'cus_gone', '', 1772366400, 3, 3, 1772367000);
INSERT INTO meterkit_usage VALUES ('egress', 'egress_bytes', 'acme', '', 1772366400, 700, 700, 1772367000);
INSERT INTO meterkit_usage VALUES ('calls', 'calls', 'acme', '', 1772370000, 17, 17, 1772370600);
INSERT INTO meterkit_usage VALUES ('calls', 'calls', 'acme', '', 1772460000, 19, 0, 1772460600);
SELECT pg_catalog.setval('meterkit_reports_id_seq', 4, true);
ALTER TABLE ONLY meterkit_accounts
    ADD CONSTRAINT meterkit_accounts_pkey PRIMARY KEY (company);
ALTER TABLE ONLY meterkit_counted
    ADD CONSTRAINT meterkit_counted_pkey PRIMARY KEY (meter);
ALTER TABLE ONLY meterkit_folds
    ADD CONSTRAINT meterkit_folds_pkey PRIMARY KEY (generation);
ALTER TABLE ONLY meterkit_lease
    ADD CONSTRAINT meterkit_lease_pkey PRIMARY KEY (name);
ALTER TABLE ONLY meterkit_meta
    ADD CONSTRAINT meterkit_meta_pkey PRIMARY KEY (key);
ALTER TABLE ONLY meterkit_reports
    ADD CONSTRAINT meterkit_reports_identifier_key UNIQUE (identifier);
ALTER TABLE ONLY meterkit_reports
    ADD CONSTRAINT meterkit_reports_meter_event_name_company_window_sequence_key UNIQUE (meter, event_name, company, "window", sequence);
ALTER TABLE ONLY meterkit_reports
    ADD CONSTRAINT meterkit_reports_pkey PRIMARY KEY (id);
ALTER TABLE ONLY meterkit_usage
    ADD CONSTRAINT meterkit_usage_pkey PRIMARY KEY (meter, event_name, company, "user", "window");
CREATE INDEX meterkit_folds_folded_at ON meterkit_folds USING btree (folded_at);
CREATE INDEX meterkit_reports_place ON meterkit_reports USING btree (customer, event_name, "window");
CREATE INDEX meterkit_reports_state ON meterkit_reports USING btree (state);
CREATE INDEX meterkit_reports_unknown ON meterkit_reports USING btree (unknown_since) WHERE (unknown_since IS NOT NULL);
CREATE INDEX meterkit_usage_unreported ON meterkit_usage USING btree ("window") WHERE (quantity <> reported);
