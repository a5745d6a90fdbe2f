BEGIN TRANSACTION;
CREATE TABLE meterkit_accounts (
	company TEXT NOT NULL, 
	customer TEXT NOT NULL, 
	linked_at BIGINT NOT NULL, 
	PRIMARY KEY (company)
);
INSERT INTO "meterkit_accounts" VALUES('acme','cus_ZSvFmiay5FrC2l',1772367000);
CREATE TABLE meterkit_counted (
	meter TEXT NOT NULL, 
	quantity BIGINT NOT NULL, 
	PRIMARY KEY (meter)
);
INSERT INTO "meterkit_counted" VALUES('calls',70);
INSERT INTO "meterkit_counted" VALUES('egress',700);
CREATE TABLE meterkit_folds (
	generation VARCHAR(32) NOT NULL, 
	folded_at BIGINT NOT NULL, 
	PRIMARY KEY (generation)
);
CREATE TABLE meterkit_lease (
	name VARCHAR(40) NOT NULL, 
	holder TEXT NOT NULL, 
	token BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "meterkit_lease" VALUES('reporter','13352-6b94c8bb343b45469acc916f317c15be',3,0);
CREATE TABLE meterkit_meta (
	"key" VARCHAR(40) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meterkit_meta" VALUES('schema_version','2');
INSERT INTO "meterkit_meta" VALUES('ledger_id','980d120dace34469a7b8053e626cafa7');
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
CREATE INDEX meterkit_usage_unreported ON meterkit_usage (window) WHERE quantity <> reported;
CREATE INDEX meterkit_folds_folded_at ON meterkit_folds (folded_at);
CREATE INDEX meterkit_reports_unknown ON meterkit_reports (unknown_since) WHERE unknown_since IS NOT NULL;
CREATE INDEX meterkit_reports_place ON meterkit_reports (customer, event_name, window);
CREATE INDEX meterkit_reports_state ON meterkit_reports (state);
COMMIT;
