BEGIN TRANSACTION;
CREATE TABLE accounts (
	company TEXT NOT NULL, 
	customer TEXT NOT NULL, 
	linked_at BIGINT NOT NULL, 
	PRIMARY KEY (company)
);
INSERT INTO "accounts" VALUES('acme','cus_67UUT6wSFgWfof',1772367000);
CREATE TABLE counted (
	meter TEXT NOT NULL, 
	quantity BIGINT NOT NULL, 
	PRIMARY KEY (meter)
);
INSERT INTO "counted" VALUES('calls',70);
INSERT INTO "counted" VALUES('egress',700);
CREATE TABLE folds (
	generation VARCHAR(32) NOT NULL, 
	folded_at BIGINT NOT NULL, 
	PRIMARY KEY (generation)
);
INSERT INTO "folds" VALUES('70fa716a0b1a4237a20ad21cc3c3f311',1772460600);
CREATE TABLE lease (
	name VARCHAR(40) NOT NULL, 
	holder TEXT NOT NULL, 
	token BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "lease" VALUES('reporter','10182-7270545ea56648df8a6f4a17fca929b8',3,0);
CREATE TABLE meta (
	"key" VARCHAR(40) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema_version','1');
INSERT INTO "meta" VALUES('ledger_id','f1edc3566c9140288c11e557d698b081');
CREATE TABLE reports (
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
	refusals INTEGER NOT NULL, 
	unknown_since BIGINT, 
	error TEXT NOT NULL, 
	settled_at BIGINT, 
	PRIMARY KEY (id), 
	UNIQUE (meter, event_name, company, window, sequence), 
	UNIQUE (identifier)
);
INSERT INTO "reports" VALUES(1,'mk_b5ff8ab1b360f8f41557e01317e6e9f9e25297c4c4e5f11e','calls','calls','acme','cus_67UUT6wSFgWfof',1772366400,0,7,1772367000,1772370600,'sent',1,0,1772370600,'',1772370600);
INSERT INTO "reports" VALUES(2,'mk_6346afba3e756d7d25ab8177246dedd653ed83fc4f13c179','calls','calls','cus_gone','cus_gone',1772366400,0,3,1772367000,1772370600,'rejected',1,0,1772370600,'400: No such customer: ''cus_gone'' [req_6yVUo7SaEFz3Hv]',1772370600);
INSERT INTO "reports" VALUES(3,'mk_26df04b26648a41a478a0fb8970db2df76aee2943a49264c','egress','egress_bytes','acme','cus_67UUT6wSFgWfof',1772366400,0,700,1772367000,1772370600,'pending',2,2,NULL,'400: No active meter found for event name "egress_bytes". [req_087cr59msoIRTf] Create the meter, and it will be sent',NULL);
INSERT INTO "reports" VALUES(4,'mk_0f1b5d4df9a046386c3cb91a4418e7c284bd38ef7f89c4ef','calls','calls','acme','cus_67UUT6wSFgWfof',1772370000,0,17,1772370600,1772374200,'uncertain',4,0,1772374200,'no answer: ReadError: [Errno 104] Connection reset by peer',NULL);
CREATE TABLE usage (
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
INSERT INTO "usage" VALUES('calls','calls','','',1772366400,13,0,1772367000);
INSERT INTO "usage" VALUES('calls','calls','acme','',1772366400,2,2,1772367000);
INSERT INTO "usage" VALUES('calls','calls','acme','anna',1772366400,5,5,1772367000);
INSERT INTO "usage" VALUES('calls','calls','cus_gone','',1772366400,3,3,1772367000);
INSERT INTO "usage" VALUES('calls','calls','globex','',1772366400,11,0,1772367000);
INSERT INTO "usage" VALUES('egress','egress_bytes','acme','',1772366400,700,700,1772367000);
INSERT INTO "usage" VALUES('calls','calls','acme','',1772370000,17,17,1772370600);
INSERT INTO "usage" VALUES('calls','calls','acme','',1772460000,19,0,1772460600);
CREATE INDEX usage_unreported ON usage (window) WHERE quantity <> reported;
CREATE INDEX ix_folds_folded_at ON folds (folded_at);
CREATE INDEX reports_state ON reports (state);
COMMIT;
