"""The extensions, made without an application and initialized by `create_app`."""

from flask_sqlalchemy import SQLAlchemy

from flask_sessionwatch import SessionWatch

from .models import Base

db = SQLAlchemy(metadata=Base.metadata)
watch = SessionWatch()
