BEGIN TRANSACTION;
CREATE TABLE meterkit_accounts (
	company TEXT NOT NULL, 
	customer TEXT NOT NULL, 
	linked_at BIGINT NOT NULL, source VARCHAR(10) NOT NULL DEFAULT 'link', 
	PRIMARY KEY (company)
);
INSERT INTO "meterkit_accounts" VALUES('acme','cus_ZSvFmiay5FrC2l',1772367000,'link');
CREATE TABLE meterkit_actions (
    id INTEGER NOT NULL PRIMARY KEY, at BIGINT NOT NULL, action VARCHAR(20) NOT NULL, subject TEXT NOT NULL,
    detail TEXT NOT NULL, "by" TEXT NOT NULL
);
INSERT INTO "meterkit_actions" VALUES(1,1772367000,'link','acme','cus_ZSvFmiay5FrC2l','ann');
CREATE TABLE meterkit_blocked (
    company TEXT NOT NULL, reason VARCHAR(40) NOT NULL, day BIGINT NOT NULL, count BIGINT NOT NULL,
    PRIMARY KEY (company, reason, day)
);
INSERT INTO "meterkit_blocked" VALUES('acme','overdue',1772323200,3);
CREATE TABLE meterkit_corrections (
    id VARCHAR(32) NOT NULL PRIMARY KEY, meter TEXT NOT NULL, event_name TEXT NOT NULL, company TEXT NOT NULL,
    "window" BIGINT NOT NULL, quantity BIGINT NOT NULL, reason TEXT NOT NULL, created_at BIGINT NOT NULL,
    report VARCHAR(100), state VARCHAR(10) NOT NULL, error TEXT NOT NULL
);
CREATE TABLE meterkit_counted (
	meter TEXT NOT NULL, 
	quantity BIGINT NOT NULL, 
	PRIMARY KEY (meter)
);
INSERT INTO "meterkit_counted" VALUES('calls',70);
INSERT INTO "meterkit_counted" VALUES('egress',700);
CREATE TABLE meterkit_customers (
    id VARCHAR(255) NOT NULL PRIMARY KEY, name TEXT NOT NULL, company TEXT, deleted BOOLEAN NOT NULL,
    checked_at BIGINT NOT NULL
, discounts TEXT NOT NULL DEFAULT '[]', subscriptions_read_at BIGINT);
INSERT INTO "meterkit_customers" VALUES('cus_acme','Acme & Sons','acme',0,1772366000,'[]',NULL);
CREATE TABLE meterkit_deliveries (
    notice VARCHAR(500) NOT NULL, channel VARCHAR(255) NOT NULL, state VARCHAR(10) NOT NULL, attempts INTEGER NOT NULL,
    next_attempt_at BIGINT NOT NULL, error TEXT NOT NULL, settled_at BIGINT, PRIMARY KEY (notice, channel)
);
INSERT INTO "meterkit_deliveries" VALUES('tier_crossed:acme:calls:1772323200:2','log','waiting',1,1772366060,'it failed',NULL);
CREATE TABLE meterkit_folds (
	generation VARCHAR(32) NOT NULL, 
	folded_at BIGINT NOT NULL, 
	PRIMARY KEY (generation)
);
CREATE TABLE meterkit_former_items (
    id VARCHAR(255) NOT NULL, since BIGINT NOT NULL, until BIGINT NOT NULL, changed_after BIGINT NOT NULL,
    subscription VARCHAR(255) NOT NULL, customer VARCHAR(255) NOT NULL, meter VARCHAR(255), event_name TEXT,
    quantity BIGINT, price TEXT NOT NULL, period_start BIGINT NOT NULL DEFAULT 0, period_end BIGINT NOT NULL DEFAULT 0,
    prorated BOOLEAN, PRIMARY KEY (id, since)
);
CREATE TABLE meterkit_inherited (
	meter TEXT NOT NULL, 
	event_name TEXT NOT NULL, 
	company TEXT NOT NULL, 
	"window" BIGINT NOT NULL, 
	quantity BIGINT NOT NULL, 
	ledger_id VARCHAR(32) NOT NULL, 
	PRIMARY KEY (meter, event_name, company, "window")
);
CREATE TABLE meterkit_invoices (
    id VARCHAR(255) NOT NULL PRIMARY KEY, customer VARCHAR(255) NOT NULL, subscription VARCHAR(255), number TEXT,
    status VARCHAR(40) NOT NULL, billing_reason VARCHAR(40), collection_method VARCHAR(40) NOT NULL,
    currency VARCHAR(3) NOT NULL, total BIGINT NOT NULL, amount_remaining BIGINT NOT NULL, attempts INTEGER NOT NULL,
    created BIGINT NOT NULL, period_start BIGINT NOT NULL, period_end BIGINT NOT NULL, due_at BIGINT,
    next_attempt_at BIGINT, finalized_at BIGINT, url TEXT, checked_at BIGINT NOT NULL
, lines TEXT NOT NULL DEFAULT '[]', failed_at BIGINT);
INSERT INTO "meterkit_invoices" VALUES('in_1','cus_acme','sub_1','A-1','open','subscription_cycle','charge_automatically','usd',420000,420000,1,1772366000,1769687600,1772366000,NULL,1772452400,1772369600,'https://invoice.example/1',1772366000,'[]',NULL);
CREATE TABLE meterkit_items (
    id VARCHAR(255) NOT NULL PRIMARY KEY, subscription VARCHAR(255) NOT NULL, customer VARCHAR(255) NOT NULL,
    event_name TEXT, quantity BIGINT, period_start BIGINT NOT NULL, period_end BIGINT NOT NULL, price TEXT NOT NULL
, meter VARCHAR(255), since BIGINT NOT NULL DEFAULT 0);
INSERT INTO "meterkit_items" VALUES('si_1','sub_1','cus_acme','calls',NULL,1772366000,1775044400,'{"currency": "usd", "billing_scheme": "per_unit", "unit_amount_decimal": "5"}',NULL,0);
CREATE TABLE meterkit_lease (
	name VARCHAR(40) NOT NULL, 
	holder TEXT NOT NULL, 
	token BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "meterkit_lease" VALUES('reporter','13352-6b94c8bb343b45469acc916f317c15be',3,0);
INSERT INTO "meterkit_lease" VALUES('follower','',0,0);
CREATE TABLE meterkit_meta (
	"key" VARCHAR(40) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meterkit_meta" VALUES('schema_version','7');
INSERT INTO "meterkit_meta" VALUES('ledger_id','980d120dace34469a7b8053e626cafa7');
INSERT INTO "meterkit_meta" VALUES('change','0');
CREATE TABLE meterkit_meter_totals (
    meter TEXT NOT NULL, day BIGINT NOT NULL, quantity BIGINT NOT NULL, PRIMARY KEY (meter, day)
);
INSERT INTO "meterkit_meter_totals" VALUES('calls',1772323200,51);
INSERT INTO "meterkit_meter_totals" VALUES('calls',1772409600,19);
INSERT INTO "meterkit_meter_totals" VALUES('egress',1772323200,700);
CREATE TABLE meterkit_month_totals (
    month BIGINT NOT NULL, meter TEXT NOT NULL, company TEXT NOT NULL, quantity BIGINT NOT NULL,
    PRIMARY KEY (month, meter, company)
) WITHOUT ROWID;
INSERT INTO "meterkit_month_totals" VALUES(1772323200,'calls','acme',43);
INSERT INTO "meterkit_month_totals" VALUES(1772323200,'calls','cus_gone',3);
INSERT INTO "meterkit_month_totals" VALUES(1772323200,'calls','globex',11);
INSERT INTO "meterkit_month_totals" VALUES(1772323200,'egress','acme',700);
CREATE TABLE meterkit_notices (
    "key" VARCHAR(500) NOT NULL PRIMARY KEY, kind VARCHAR(40) NOT NULL, company TEXT, title TEXT NOT NULL,
    text TEXT NOT NULL, fields TEXT NOT NULL, created_at BIGINT NOT NULL
);
INSERT INTO "meterkit_notices" VALUES('tier_crossed:acme:calls:1772323200:2','tier_crossed','acme','acme is in tier 2','acme has used 101 calls.','{"meter": "calls"}',1772366000);
CREATE TABLE meterkit_opening_balances (
    customer VARCHAR(255) NOT NULL, event_name TEXT NOT NULL, since BIGINT NOT NULL, until BIGINT NOT NULL,
    quantity BIGINT NOT NULL, PRIMARY KEY (customer, event_name, since)
);
CREATE TABLE meterkit_peaks (
    meter TEXT NOT NULL, company TEXT NOT NULL, value TEXT NOT NULL, "window" BIGINT NOT NULL, quantity BIGINT NOT NULL,
    PRIMARY KEY (meter, company, value, "window")
);
INSERT INTO "meterkit_peaks" VALUES('people','acme','ada',1772366400,1);
CREATE TABLE meterkit_record_keys (
    meter TEXT NOT NULL, company TEXT NOT NULL, "key" TEXT NOT NULL, quantity BIGINT NOT NULL,
    counted_at BIGINT NOT NULL, PRIMARY KEY (meter, company, "key")
);
INSERT INTO "meterkit_record_keys" VALUES('calls','acme','job-17',3,1772367000);
CREATE TABLE meterkit_reports (
	id INTEGER NOT NULL, 
	identifier VARCHAR(100) NOT NULL, 
	meter TEXT NOT NULL, 
	event_name TEXT NOT NULL, 
	company TEXT NOT NULL, 
	customer TEXT NOT NULL, 
	window BIGINT NOT NULL, 
	sequence INTEGER NOT NULL, 
	quantity BIGINT NOT NULL, 
	timestamp BIGINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	attempts INTEGER NOT NULL, 
	revision INTEGER DEFAULT '0' NOT NULL, 
	refusals INTEGER NOT NULL, 
	attempted_at BIGINT, 
	unknown_since BIGINT, 
	compared_at BIGINT, 
	error TEXT NOT NULL, 
	settled_at BIGINT, 
	PRIMARY KEY (id), 
	UNIQUE (meter, event_name, company, window, sequence), 
	UNIQUE (identifier)
);
INSERT INTO "meterkit_reports" VALUES(1,'mk_7f7cb375e23a26870ebab92a55fc5e2245497d187355cc43','calls','calls','acme','cus_ZSvFmiay5FrC2l',1772366400,0,7,1772367000,1772370600,'sent',1,0,0,1772370600,NULL,NULL,'',1772370600);
INSERT INTO "meterkit_reports" VALUES(2,'mk_c18460e14b024b5cc5dc39a83bc54b393c58b2fa46fd2838','calls','calls','cus_gone','cus_gone',1772366400,0,3,1772367000,1772370600,'rejected',1,0,0,1772370600,NULL,NULL,'400: No such customer: ''cus_gone'' [req_RKPCivjPQucADT]',1772370600);
INSERT INTO "meterkit_reports" VALUES(3,'mk_e5f6b2f68b1a3cc024caa1921fda25bc1a43b72910b026cc','egress','egress_bytes','acme','cus_ZSvFmiay5FrC2l',1772366400,0,700,1772367000,1772370600,'pending',2,2,0,1772460600,NULL,NULL,'400: No active meter found for event name "egress_bytes". [req_F6gmhCDqNIZeYp] Create the meter, and it will be sent',NULL);
INSERT INTO "meterkit_reports" VALUES(4,'mk_442cd44376f900b4c19aeb5cb2d9e2771403f921d126e70d','calls','calls','acme','cus_ZSvFmiay5FrC2l',1772370000,0,17,1772370600,1772374200,'sent',4,0,0,1772374200,NULL,NULL,'',1772460600);
CREATE TABLE meterkit_slices (
    lineage VARCHAR(16) NOT NULL, company TEXT NOT NULL, name TEXT NOT NULL, drawn BIGINT NOT NULL,
    folded BIGINT NOT NULL, rates TEXT NOT NULL, drawn_at BIGINT NOT NULL, PRIMARY KEY (lineage, company, name)
);
CREATE TABLE meterkit_stripe_meters (
    id VARCHAR(255) NOT NULL PRIMARY KEY, event_name TEXT NOT NULL, deactivated_at BIGINT
);
CREATE TABLE meterkit_subscription_states (
    subscription VARCHAR(255) NOT NULL, since BIGINT NOT NULL, status VARCHAR(40) NOT NULL, pause VARCHAR(40),
    PRIMARY KEY (subscription, since)
);
CREATE TABLE meterkit_subscriptions (
    id VARCHAR(255) NOT NULL PRIMARY KEY, customer VARCHAR(255) NOT NULL, status VARCHAR(40) NOT NULL,
    created BIGINT NOT NULL, ended_at BIGINT, cancel_at BIGINT, checked_at BIGINT NOT NULL
, currency VARCHAR(3) NOT NULL DEFAULT '', billing_mode VARCHAR(40) NOT NULL DEFAULT '', anchor BIGINT, trial_start BIGINT, trial_end BIGINT, pause VARCHAR(40), resumes_at BIGINT, discounts TEXT NOT NULL DEFAULT '[]', threshold BIGINT, company TEXT, started_at BIGINT, cancel_reason VARCHAR(40));
INSERT INTO "meterkit_subscriptions" VALUES('sub_1','cus_acme','active',1772366000,NULL,NULL,1772366000,'','',NULL,NULL,NULL,NULL,NULL,'[]',NULL,NULL,NULL,NULL);
CREATE TABLE meterkit_totals (
    company TEXT NOT NULL, meter TEXT NOT NULL, day BIGINT NOT NULL, quantity BIGINT NOT NULL,
    "change" BIGINT NOT NULL, PRIMARY KEY (company, meter, day)
);
INSERT INTO "meterkit_totals" VALUES('acme','calls',1772323200,24,0);
INSERT INTO "meterkit_totals" VALUES('acme','calls',1772409600,19,0);
INSERT INTO "meterkit_totals" VALUES('acme','egress',1772323200,700,0);
INSERT INTO "meterkit_totals" VALUES('cus_gone','calls',1772323200,3,0);
INSERT INTO "meterkit_totals" VALUES('globex','calls',1772323200,11,0);
CREATE TABLE meterkit_usage (
	meter TEXT NOT NULL, 
	event_name TEXT NOT NULL, 
	company TEXT NOT NULL, 
	user TEXT NOT NULL, 
	window BIGINT NOT NULL, 
	quantity BIGINT NOT NULL, 
	reported BIGINT NOT NULL, 
	last_used BIGINT NOT NULL, 
	PRIMARY KEY (meter, event_name, company, user, window)
);
INSERT INTO "meterkit_usage" VALUES('calls','calls','','',1772366400,13,0,1772367000);
INSERT INTO "meterkit_usage" VALUES('calls','calls','acme','',1772366400,2,2,1772367000);
INSERT INTO "meterkit_usage" VALUES('calls','calls','acme','anna',1772366400,5,5,1772367000);
INSERT INTO "meterkit_usage" VALUES('calls','calls','cus_gone','',1772366400,3,3,1772367000);
INSERT INTO "meterkit_usage" VALUES('calls','calls','globex','',1772366400,11,0,1772367000);
INSERT INTO "meterkit_usage" VALUES('egress','egress_bytes','acme','',1772366400,700,700,1772367000);
INSERT INTO "meterkit_usage" VALUES('calls','calls','acme','',1772370000,17,17,1772370600);
INSERT INTO "meterkit_usage" VALUES('calls','calls','acme','',1772460000,19,0,1772460600);
CREATE TABLE meterkit_webhook_events (
    id VARCHAR(255) NOT NULL PRIMARY KEY, type TEXT NOT NULL, created BIGINT NOT NULL, object_type VARCHAR(80),
    object_id VARCHAR(255), received_at BIGINT NOT NULL, state VARCHAR(10) NOT NULL, reason TEXT NOT NULL,
    settled_at BIGINT, told TEXT NOT NULL DEFAULT ''
);
INSERT INTO "meterkit_webhook_events" VALUES('evt_1','invoice.payment_failed',1772366000,'invoice','in_1',1772366001,'received','',NULL,'');
CREATE INDEX meterkit_usage_unreported ON meterkit_usage (window) WHERE quantity <> reported;
CREATE INDEX meterkit_folds_folded_at ON meterkit_folds (folded_at);
CREATE INDEX meterkit_reports_unknown ON meterkit_reports (unknown_since) WHERE unknown_since IS NOT NULL;
CREATE INDEX meterkit_reports_place ON meterkit_reports (customer, event_name, window);
CREATE INDEX meterkit_reports_state ON meterkit_reports (state);
CREATE INDEX meterkit_customers_company ON meterkit_customers (company);
CREATE INDEX meterkit_subscriptions_customer ON meterkit_subscriptions (customer);
CREATE INDEX meterkit_items_subscription ON meterkit_items (subscription);
CREATE INDEX meterkit_items_customer ON meterkit_items (customer);
CREATE INDEX meterkit_items_period_end ON meterkit_items (period_end);
CREATE INDEX meterkit_invoices_customer ON meterkit_invoices (customer, status);
CREATE INDEX meterkit_webhook_events_waiting ON meterkit_webhook_events (received_at) WHERE state = 'received';
CREATE INDEX meterkit_webhook_events_received_at ON meterkit_webhook_events (received_at);
CREATE INDEX meterkit_corrections_place ON meterkit_corrections (company, meter, "window");
CREATE INDEX meterkit_corrections_state ON meterkit_corrections (state)
;
CREATE INDEX meterkit_invoices_open ON meterkit_invoices (customer) WHERE status = 'open';
CREATE INDEX meterkit_usage_company ON meterkit_usage (company, "window");
CREATE INDEX meterkit_totals_change ON meterkit_totals ("change");
CREATE INDEX meterkit_peaks_window ON meterkit_peaks ("window");
CREATE INDEX meterkit_notices_created_at ON meterkit_notices (created_at);
CREATE INDEX meterkit_deliveries_waiting ON meterkit_deliveries (next_attempt_at) WHERE state = 'waiting';
CREATE INDEX meterkit_slices_place ON meterkit_slices (company, name)
;
CREATE INDEX meterkit_usage_reported ON meterkit_usage ("window") WHERE quantity = reported;
CREATE INDEX meterkit_record_keys_counted_at ON meterkit_record_keys (counted_at);
CREATE INDEX meterkit_actions_at ON meterkit_actions (at);
CREATE INDEX meterkit_former_items_subscription ON meterkit_former_items (subscription);
CREATE INDEX meterkit_former_items_customer ON meterkit_former_items (customer, until);
CREATE INDEX meterkit_accounts_customer ON meterkit_accounts (customer);
CREATE INDEX meterkit_blocked_day ON meterkit_blocked (day);
CREATE INDEX meterkit_deliveries_given_up ON meterkit_deliveries (notice) WHERE state = 'given_up';
CREATE INDEX meterkit_notices_company ON meterkit_notices (company, created_at);
CREATE TABLE meterkit_access_logs (
    id VARCHAR(32) NOT NULL PRIMARY KEY, source TEXT NOT NULL, family TEXT NOT NULL, path TEXT NOT NULL,
    inode VARCHAR(60) NOT NULL, head_bytes INTEGER NOT NULL, head VARCHAR(64) NOT NULL, tail_bytes INTEGER NOT NULL,
    tail VARCHAR(64) NOT NULL, read_bytes BIGINT NOT NULL, since BIGINT NOT NULL, lines BIGINT NOT NULL,
    unreadable BIGINT NOT NULL, outdated BIGINT NOT NULL, error TEXT NOT NULL, error_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL, seen_at BIGINT NOT NULL, finished VARCHAR(60) NOT NULL
);
CREATE TABLE meterkit_grants (
    id VARCHAR(32) NOT NULL PRIMARY KEY, company TEXT NOT NULL, wallet TEXT NOT NULL, key TEXT NOT NULL,
    unit TEXT NOT NULL, amount BIGINT NOT NULL, remaining BIGINT NOT NULL, priority INTEGER NOT NULL,
    expires_at BIGINT, source TEXT NOT NULL, created_at BIGINT NOT NULL, "by" TEXT NOT NULL,
    paid BIGINT, currency VARCHAR(3),
    UNIQUE (company, wallet, key)
);
CREATE INDEX meterkit_grants_left ON meterkit_grants (company, wallet) WHERE remaining > 0;
CREATE INDEX meterkit_grants_expiring ON meterkit_grants (expires_at) WHERE remaining > 0 AND expires_at IS NOT NULL;
CREATE TABLE meterkit_entries (
    company TEXT NOT NULL, wallet TEXT NOT NULL, unit TEXT NOT NULL, movement TEXT NOT NULL,
    account VARCHAR(20) NOT NULL, grant_id VARCHAR(32) NOT NULL, amount BIGINT NOT NULL,
    quantity BIGINT NOT NULL, cause VARCHAR(20) NOT NULL, meter TEXT NOT NULL, key TEXT NOT NULL,
    "by" TEXT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (company, wallet, unit, movement, account, grant_id)
);
CREATE INDEX meterkit_entries_at ON meterkit_entries (company, wallet, at);
CREATE INDEX meterkit_entries_settled ON meterkit_entries (company, wallet)
    WHERE account NOT IN ('used', 'available');
CREATE TABLE meterkit_wallet_usage (
    company TEXT NOT NULL, meter TEXT NOT NULL, before BIGINT NOT NULL, quantity BIGINT NOT NULL,
    PRIMARY KEY (company, meter)
);
CREATE TABLE meterkit_top_ups (
    company TEXT NOT NULL, wallet TEXT NOT NULL, unit TEXT NOT NULL, pack TEXT NOT NULL, pack_name TEXT NOT NULL,
    below BIGINT NOT NULL, most_per_month INTEGER NOT NULL, enabled BOOLEAN NOT NULL, failures INTEGER NOT NULL,
    error TEXT NOT NULL, next_at BIGINT NOT NULL, PRIMARY KEY (company, wallet)
);
CREATE TABLE meterkit_top_up_attempts (
    id VARCHAR(32) NOT NULL PRIMARY KEY, company TEXT NOT NULL, wallet TEXT NOT NULL, pack TEXT NOT NULL,
    pack_name TEXT NOT NULL, customer VARCHAR(255) NOT NULL, invoice VARCHAR(255) NOT NULL, state VARCHAR(20) NOT NULL,
    error TEXT NOT NULL, refusals INTEGER NOT NULL, is_tried BOOLEAN NOT NULL, created_at BIGINT NOT NULL,
    look_at BIGINT NOT NULL, ended_at BIGINT
);
CREATE UNIQUE INDEX meterkit_top_up_attempts_open ON meterkit_top_up_attempts (company, wallet) WHERE state = 'open';
CREATE INDEX meterkit_top_up_attempts_ended ON meterkit_top_up_attempts (company, wallet, ended_at);
CREATE INDEX meterkit_access_logs_source ON meterkit_access_logs (source);
CREATE INDEX meterkit_access_logs_seen_at ON meterkit_access_logs (seen_at);
CREATE TABLE meterkit_usage_values (
    company TEXT NOT NULL, meter TEXT NOT NULL, "window" BIGINT NOT NULL, dimensions TEXT NOT NULL,
    event_name TEXT NOT NULL, quantity BIGINT NOT NULL,
    PRIMARY KEY (company, meter, "window", dimensions, event_name)
) WITHOUT ROWID;
CREATE INDEX meterkit_usage_values_meter ON meterkit_usage_values (meter, "window");
CREATE TABLE meterkit_month_values (
    month BIGINT NOT NULL, meter TEXT NOT NULL, company TEXT NOT NULL, dimensions TEXT NOT NULL,
    quantity BIGINT NOT NULL, PRIMARY KEY (month, meter, company, dimensions)
) WITHOUT ROWID;
CREATE INDEX meterkit_month_values_company ON meterkit_month_values (company, month);
ALTER TABLE meterkit_corrections ADD COLUMN dimensions TEXT NOT NULL DEFAULT '';
CREATE TABLE meterkit_rated (
    company TEXT NOT NULL, meter TEXT NOT NULL, "window" BIGINT NOT NULL, dimensions TEXT NOT NULL,
    amounts TEXT NOT NULL, rate BIGINT NOT NULL, quantity BIGINT NOT NULL, billed BIGINT NOT NULL,
    PRIMARY KEY (company, meter, "window", dimensions, amounts, rate)
) WITHOUT ROWID;
CREATE INDEX meterkit_rated_meter ON meterkit_rated (meter, "window");
CREATE INDEX meterkit_rated_unpriced ON meterkit_rated (meter) WHERE rate < 0;
CREATE INDEX meterkit_rated_unbilled ON meterkit_rated (company, "window") WHERE quantity <> billed;
CREATE TABLE meterkit_rated_sums (
    company TEXT NOT NULL, amounts TEXT NOT NULL, amount BIGINT NOT NULL, PRIMARY KEY (company, amounts)
) WITHOUT ROWID;
CREATE TABLE meterkit_rerates (
    id INTEGER NOT NULL PRIMARY KEY, month BIGINT NOT NULL, at BIGINT NOT NULL, "by" TEXT NOT NULL,
    state VARCHAR(10) NOT NULL
);
CREATE INDEX meterkit_rerates_month ON meterkit_rerates (month);
CREATE TABLE meterkit_rerated (
    rerate BIGINT NOT NULL, company TEXT NOT NULL, meter TEXT NOT NULL, "window" BIGINT NOT NULL,
    dimensions TEXT NOT NULL, amounts TEXT NOT NULL, old BIGINT NOT NULL, new BIGINT NOT NULL,
    quantity BIGINT NOT NULL,
    PRIMARY KEY (rerate, company, meter, "window", dimensions, amounts, old, new)
) WITHOUT ROWID;
CREATE TABLE meterkit_rated_lines (
    id INTEGER NOT NULL PRIMARY KEY, identifier VARCHAR(100) NOT NULL UNIQUE, customer VARCHAR(255) NOT NULL,
    subscription VARCHAR(255) NOT NULL, invoice VARCHAR(255) NOT NULL, is_late BOOLEAN NOT NULL, meter TEXT NOT NULL,
    amounts TEXT NOT NULL, dimensions TEXT NOT NULL, period_start BIGINT NOT NULL, period_end BIGINT NOT NULL,
    quantity BIGINT NOT NULL, exact BIGINT NOT NULL, amount BIGINT NOT NULL,
    currency VARCHAR(3) NOT NULL, description TEXT NOT NULL,
    created_at BIGINT NOT NULL, state VARCHAR(10) NOT NULL, attempts INTEGER NOT NULL, refusals INTEGER NOT NULL,
    error TEXT NOT NULL, settled_at BIGINT
);
CREATE INDEX meterkit_rated_lines_state ON meterkit_rated_lines (state);
CREATE INDEX meterkit_rated_lines_place ON meterkit_rated_lines (invoice, amounts);
COMMIT;
