import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_sessionwatch import SessionWatch

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///minimal.db"
db = SQLAlchemy(app)
watch = SessionWatch(app)


@app.get("/")
def index() -> str:
    connection = db.engine.connect()  # SW101 leaked-connection: nobody closes it
    return str(connection.scalar(sa.text("SELECT 'hello'")))
